"""Configurations: ranges, schema, checks, composition, and the files that programs share."""
