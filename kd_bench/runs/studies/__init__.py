"""Studies: a question with a grid of runs.

``grid`` composes it, ``planning`` puts the runs in order, ``scheduling`` runs them in processes of their own
(``worker``), ``progress`` keeps the file that ``kd-bench status`` reads.
"""
