"""Data sets: sources give arrays, the data module gives batches.

Order and augmentation are functions of (seed, epoch, sample index) and of nothing else.
"""
