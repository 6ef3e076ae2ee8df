"""Opens a page in a browser that has a window of its own."""

from __future__ import annotations

import webbrowser
from pathlib import Path

_IN_THE_TERMINAL = frozenset({"elinks", "links", "lynx", "w3m", "www-browser"})
"""Browsers that Python starts in the terminal, in the foreground, where no display is set."""


def open_page(url: str) -> bool:
    """Open a page in the user's browser, unless that runs in the terminal, which we write to.

    Returns:
        Whether a browser was started.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    command = getattr(browser, "name", "")  # not every class of Python's has one
    if Path(command).name in _IN_THE_TERMINAL:
        return False
    return browser.open(url)
