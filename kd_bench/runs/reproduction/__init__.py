"""Published tables, with their numbers beside ours.

``published`` reads the numbers, ``tables`` says how the runs beside them are configured, ``cells`` makes runs of them,
``matching`` finds their records, ``verdicts`` compares, ``board_pages`` writes; ``estimate`` alone needs torch.
"""
