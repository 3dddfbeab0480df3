"""Characters that cannot be seen, by which a text may pass for another one or change what a terminal shows."""

import unicodedata

# Control characters, formats such as the right-to-left override, surrogates, private use, line separators.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
JOINERS = "\u200c\u200d"  # invisible, but letters of some scripts need them


def is_hidden(character: str) -> bool:
    """Whether nothing would be seen of a character."""
    return unicodedata.category(character) in HIDDEN_CATEGORIES
