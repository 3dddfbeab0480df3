"""Numbers and names as text for people: formats and escaping."""
