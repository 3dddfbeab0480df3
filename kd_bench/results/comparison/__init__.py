"""Two runs, methods or studies beside each other: differences by seed, sample and class, and cost. Needs no torch.

``sides`` finds what is compared, ``measures`` compares, ``predictions`` reads logits, ``text`` shows.
"""
