"""Figures, drawn with matplotlib."""

import logging

from mmsearch.errors import MMSearchError

# It warns of a home folder that cannot be written, and of the fonts that it looks for then.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
try:
    import matplotlib as mpl  # noqa: F401 (makes a folder for its cache)
except OSError as error:
    raise MMSearchError(
        "figures cannot be drawn, since matplotlib has no folder for its cache; name one that can "
        "be written with MPLCONFIGDIR or TMPDIR"
    ) from error
except ValueError as error:  # MPLBACKEND, for example
    why = str(error).partition(";")[0]
    raise MMSearchError(
        f"figures cannot be drawn, since matplotlib is set up wrongly: {why}"
    ) from error
