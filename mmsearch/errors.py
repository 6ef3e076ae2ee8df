"""The errors that a person can act on; the floor under all four rooms.

    MMSearchError            exit 1: failed while running
    ├── InputError           exit 2: wrong usage or bad input
    └── RefusedError         exit 3: refused so as to protect a result

A message names the thing, the rule, the value it got and the next step. The command line prints
it as one line, without a traceback.
"""


class MMSearchError(Exception):
    """Root of the errors that mmsearch raises on purpose."""

    exit_code = 1
    """What the process exits with when the error reaches the command line."""


class InputError(MMSearchError):
    """The corpus, the config or an option cannot be used as given."""

    exit_code = 2


class RefusedError(MMSearchError):
    """The command would have damaged a result: a running study, a stored one, the test split."""

    exit_code = 3
