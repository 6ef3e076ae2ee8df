"""The commands that show a study in MLflow."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from mmsearch.errors import MMSearchError
from mmsearch.search.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    QuietOption,
    StorageOption,
    StudyOption,
    TrackingOption,
    WorkspaceOption,
)
from mmsearch.search.display import printing
from mmsearch.search.study.workspace import Workspace


def ui(  # noqa: PLR0913 (each is one flag)
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    tracking_uri: TrackingOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port.", show_default="5000, or a free one"),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; any but this machine's own is open to others."),
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST,...",
            help="Names by which browsers on other machines reach it; there is no password.",
            show_default="none",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the link in a graphical browser.")] = True,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Open the MLflow UI on a study's comparison; Ctrl-C ends it."""
    from mmsearch.search.display.browser import open_page  # noqa: PLC0415 (imports wait for a command)
    from mmsearch.search.results.publish import open_tracker  # noqa: PLC0415
    from mmsearch.search.results.selection import Plan  # noqa: PLC0415
    from mmsearch.search.study.urls import without_userinfo  # noqa: PLC0415
    from mmsearch.tracking.mlflow.server import (  # noqa: PLC0415
        charts_url,
        check_hosts,
        leaderboard_url,
        plain_url,
        run_url,
        serve,
    )

    allowed = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    check_hosts(host, allowed)
    place = Workspace.at(workspace)
    journal = place.existing(study)
    tracker = open_tracker(place, journal, tracking_uri)
    console = printing.console()
    news = printing.console()
    news.quiet = quiet or as_json

    def links(base: str) -> dict[str, str | None]:
        """Give the pages worth opening, by what they show."""
        where = (base, tracker.experiment_id, tracker.facts.id)
        leaderboard = leaderboard_url(*where)
        is_confirmed = Plan.read(journal) is not None
        return {
            "leaderboard": leaderboard,
            "charts": charts_url(leaderboard),
            "summary": run_url(base, tracker.experiment_id, tracker.parent_id),
            "confirmed": leaderboard_url(*where, kind="confirm") if is_confirmed else None,
            "plain": plain_url(*where),
        }

    def show(base: str) -> None:
        found = links(base)
        if as_json:
            printing.emit({"study": journal.name, **found})
        else:
            news.print(f"study {journal.name!r} in MLflow:")
            for name, url in found.items():
                if url is not None:
                    console.print(f"{name:<11} {url}", style="bold")
        if browser:
            open_page(str(found["leaderboard"]))

    if tracker.uri.startswith(("http://", "https://")):
        show(without_userinfo(tracker.uri).rstrip("/"))
        return
    news.print("starting the MLflow server ...")
    with serve(
        tracker.uri,
        tracker.artifacts,
        log_folder=place.root / "logs",
        host=host,
        port=port,
        allowed_hosts=allowed,
    ) as server:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        show(server.base)
        for base in server.elsewhere:
            news.print(f"on other machines: {links(base)['leaderboard']}")
        news.print("Ctrl-C ends it")
        code = server.process.wait()
        raise MMSearchError(f"the MLflow server ended with code {code}; see {server.log}")


def sync(  # noqa: PLR0913 (each is one flag)
    *,
    study: StudyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fill MLflow in with what the workspace knows of a study, each thing once."""
    from mmsearch.search.results.publish import sync_study  # noqa: PLC0415 (imports wait for a command)

    place = Workspace.at(workspace)
    journal = place.existing(study)
    n_shown = sync_study(place, journal, storage, tracking_uri)
    if as_json:
        printing.emit({"study": journal.name, "n_sent": n_shown})
        return
    if quiet:
        return
    printing.console().print(
        f"study {journal.name!r} is whole in MLflow; {n_shown} trials were sent"
    )
