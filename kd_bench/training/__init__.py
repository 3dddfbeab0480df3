"""One optimisation: from a checked configuration to trained weights."""
