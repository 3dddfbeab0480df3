"""The paper's number beside ours.

``published`` reads the numbers, ``tables`` says how the runs beside them are configured, ``cells`` makes runs of them,
``board`` compares, ``pages`` writes. Needs no torch.
"""
