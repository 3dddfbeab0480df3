"""Pages of ``docs/methods``, made from docstrings, signatures, configurations and measured costs.

``python -m kd_bench.cli.method_pages`` writes them; ``--measure`` measures the costs first.
"""
