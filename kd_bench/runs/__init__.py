"""Runs: what names them, where they live, in which state they are, and the record they leave."""
