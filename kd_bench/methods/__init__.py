"""Distillation methods: one file each, with the pure loss function on top and the class below.

A method is found through the ``_target_`` of its file in ``conf/method``; there is nothing to register.
"""
