"""Studies: questions, each with a grid of runs; and sweeps, whose runs Hydra starts.

``grid`` opens a study, ``planning`` puts its runs in order, ``scheduling`` runs them in processes of their own
(``worker``), ``progress`` keeps the file that ``kd-bench status`` reads. ``points`` and ``pairs`` compose and build for
studies and for sweeps (``sweep``, ``search``).
"""
