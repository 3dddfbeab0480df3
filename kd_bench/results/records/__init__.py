"""Records: what one run leaves, where it lies, and how it is read."""
