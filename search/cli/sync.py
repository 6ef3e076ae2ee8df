"""`mmsearch sync`: upload the results that MLflow and the Optuna storage are missing."""

from __future__ import annotations

from mmsearch.counts import counted
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json, print_wrapped
from mmsearch.search.study.workspace import Workspace


def sync(  # noqa: PLR0913 (each is one flag)
    *,
    study: options.Study = None,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    storage: options.Storage = None,
    tracking_uri: options.TrackingUri = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Upload results that MLflow or the Optuna storage is missing."""
    from mmsearch.search.results.sync import sync_study  # noqa: PLC0415 (imports wait)

    opened = Workspace.at(workspace)
    journal = opened.existing(study)
    synced = sync_study(opened, journal, storage, tracking_uri)
    if as_json:
        print_json({"study": journal.name, "n_sent": synced.n_sent, "mended": list(synced.mended)})
    elif not quiet:
        out = make_console()
        for line in synced.mended:
            print_wrapped(out, f"MLflow: {line}")
        out.print(
            f"MLflow and the Optuna storage are up to date for study {journal.name!r} "
            f"({counted(synced.n_sent, 'trial')} sent)"
        )
