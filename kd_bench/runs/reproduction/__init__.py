"""The paper's number beside ours.

``published`` reads the numbers, ``tables`` says how the runs beside them are configured, ``cells`` makes runs of them,
``matching`` finds their records, ``board`` compares, ``pages`` writes; ``costs`` alone needs torch.
"""
