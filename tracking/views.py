"""The saved view that the MLflow UI opens a study on: a leaderboard with the columns that matter.

MLflow keeps views that its users share as tags of the experiment. The format is its own and not
documented: a page that cannot read it shows its usual columns, and nothing is lost.
"""

from __future__ import annotations

import base64
import json
import zlib

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


def view_key(study_id: str) -> str:
    """Name a study's leaderboard in links; studies of one name share an experiment."""
    return f"mmsearch-{study_id}"


def view_tag(study_id: str) -> tuple[str, str]:
    """Give the experiment tag that holds a study's leaderboard: its key and its value."""
    state = {
        # Any filter also takes runs out of their parent's fold.
        "searchFilter": "tags.`mmsearch.kind` = 'trial' and "
        f"tags.`mmsearch.study_id` = '{study_id}'",
        "orderByKey": _ORDER,
        "orderByAsc": True,
        "selectedColumns": list(_COLUMNS),
        "runsHiddenMode": "SHOWALL",
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    # Fixed times: the tag is written again with every run, and must not change.
    value = {"name": "leaderboard", "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"}
    return f"mlflow.sharedViewState.{view_key(study_id)}", json.dumps(value)
