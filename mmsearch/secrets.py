"""Hides passwords and tokens in whatever is shown or logged: one rule for all rooms."""

import re
from urllib.parse import quote, unquote

HIDDEN = "***"
"""What stands in the place of a password."""

# SQLAlchemy takes `/`, `?` and `#` in a password as they come and `@` in a user's name, and a
# person may not have escaped an `@`: so everything up to the last `@` may be password.
_SECRETS = (
    re.compile(r"(?<=://)[^/:]*:(.+)(?=@)", re.DOTALL),
    re.compile(
        r"[?&][^=&]*(?:password|passwd|pwd|token|secret|odbc_connect)=([^&]+)", re.IGNORECASE
    ),
)
_MIN_PIECE = 3
"""Characters; one or two stand in any text, and tell nothing."""


def without_password(url: str) -> str:
    """Replace the passwords of a URL with `***`; in doubt, hide too much.

    In a text everything from the first URL's password to the last `@` is hidden: give a log line
    by line.
    """
    return _hide(url, _found(url))


def without_secrets(text: str, url: str) -> str:
    """Replace a URL's passwords with `***` in what a driver or a server says of the URL.

    Passwords are hidden as they were written, decoded and encoded. Parts of them are hidden as
    well: a driver may take a character that was not escaped for the end of the password, and name
    the rest of it as the host.
    """
    secrets = {url[start:end] for start, end in _found(url)}
    spellings = {spelt for s in secrets for spelt in (s, unquote(s), quote(s, safe=""))}
    spellings |= {repr(spelt)[1:-1] for spelt in spellings}
    pieces = spellings | {piece for s in spellings for piece in re.split(r"[@/?#:\s]", s)}
    known = [
        m.span()
        for piece in pieces
        if len(piece) >= _MIN_PIECE
        for m in re.finditer(re.escape(piece), text)
    ]
    return _hide(text, [*known, *_found(text)])


def _found(text: str) -> list[tuple[int, int]]:
    """Find where passwords stand in URLs."""
    return [m.span(1) for secret in _SECRETS for m in secret.finditer(text)]


def _hide(text: str, places: list[tuple[int, int]]) -> str:
    """Replace some places, which may overlap, with `***`."""
    shown, end = "", 0
    for start, stop in sorted(places):
        if start >= end:
            shown += text[end:start] + HIDDEN
        end = max(end, stop)
    return shown + text[end:]
