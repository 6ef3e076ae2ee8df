"""Numbers with their nouns."""


def counted(n: int, noun: str, nouns: str = "") -> str:
    """Return a number and its noun, such as `1 seed` or `1,000 seeds`.

    Args:
        n: the number.
        noun: what is counted, in the singular.
        nouns: the plural; empty for the singular with an s.
    """
    return f"{n:,} {noun if n == 1 else nouns or f'{noun}s'}"
