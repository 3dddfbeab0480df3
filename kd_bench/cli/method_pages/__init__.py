"""The page of a method, made of docstrings, signatures, configurations and measured costs.

``kd-bench list methods NAME`` prints one, and ``make site`` builds all of them.
"""
