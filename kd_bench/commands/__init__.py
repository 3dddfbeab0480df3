"""The commands, one module each, named as the command; ``import_`` is called ``import``, which no module can be.

A module has ``HELP`` (one line), ``EXAMPLE``, ``add_arguments(parser)`` and ``run(options)``, which returns the exit
code. What a command needs is imported inside ``run``: ``kd-bench --help`` must not wait for torch.
"""
