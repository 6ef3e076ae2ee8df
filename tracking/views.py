"""The saved view that the MLflow UI opens a study on: a leaderboard with the columns that matter.

MLflow keeps views that its users share as tags of the experiment. The format is its own and not
documented: a page that cannot read it shows its usual columns, and nothing is lost.
"""

from __future__ import annotations

import base64
import json
import zlib

VIEW = "mmsearch-leaderboard"
"""The view's key in links."""
# Any filter also takes runs out of their parent's fold.
_TRIALS = "tags.`mmsearch.kind` = 'trial'"
_ORDER = "metrics.`dev_loss`"
_COLUMNS = (
    _ORDER,
    "tags.`mmsearch.state`",
    "params.`embedding_dim`",
    "params.`hidden_width`",
    "params.`block_size`",
    "params.`learning_rate`",
    "metrics.`n_parameters`",
    "metrics.`wall_s`",
)


def view_tag() -> tuple[str, str]:
    """Give the experiment tag that holds the leaderboard: its key and its value."""
    state = {
        "searchFilter": _TRIALS,
        "orderByKey": _ORDER,
        "orderByAsc": True,
        "selectedColumns": list(_COLUMNS),
        "runsHiddenMode": "SHOWALL",
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    # Fixed times: the tag is written again with every run, and must not change.
    value = {"name": "leaderboard", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return f"mlflow.sharedViewState.{VIEW}", json.dumps(value)
