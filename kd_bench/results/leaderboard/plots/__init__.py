"""Plots as inline SVG, drawn here: no library, no script. Each comes with its numbers as text or as a table."""
