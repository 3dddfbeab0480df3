"""One run from its configuration to its record, and the runs that it learns from."""
