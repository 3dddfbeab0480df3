"""Everything that is a function of records. Nothing here imports torch."""
