"""Comparisons of two runs, methods or studies by seed, sample and class, and in cost. Needs no torch.

``sides`` finds what is compared, ``flips`` reads predictions, ``measures`` compares, ``text`` shows.
"""
