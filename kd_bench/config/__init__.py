"""What may be asked: ranges, schema, checks, composition, and the files that programs share."""
