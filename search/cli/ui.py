"""`mmsearch ui`: open the MLflow UI on a study."""

from __future__ import annotations

import signal
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.execution.interrupts import stopping_signals
from mmsearch.search.study.workspace import Workspace, options_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.mlflow.tracker import StudyTracker

_TEXT_BROWSERS = frozenset({"elinks", "links", "lynx", "w3m", "www-browser"})
"""Browsers that Python starts in the foreground of the terminal where no display is set."""


def ui(  # noqa: PLR0913 (each is one flag)
    *,
    study: Annotated[
        list[str] | None,
        typer.Option(
            "--study",
            "-s",
            metavar="NAME",
            help="Study name; give it several times to compare studies.",
            show_default="the only study",
            autocompletion=options.study_names,
        ),
    ] = None,
    all_studies: Annotated[
        bool, typer.Option("--all", help="Compare all studies of the workspace.")
    ] = False,
    workspace: options.Workspace = options.DEFAULT_WORKSPACE,
    tracking_uri: options.TrackingUri = None,
    port: Annotated[
        int | None,
        options.number("Port of the server.", default="5000, or a free one", min=1, max=65535),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; all but 127.0.0.1 are open to other machines."),
    ] = "127.0.0.1",
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST,...",
            help="Names under which browsers on other machines reach the server; there is no "
            "password.",
            show_default="none",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option(help="Open the leaderboard in a graphical browser.")
    ] = True,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Open the MLflow UI on the comparison of a study, or of several, until Ctrl-C."""
    from mmsearch.search.study.urls import without_userinfo  # noqa: PLC0415 (imports wait)
    from mmsearch.tracking.mlflow.charts import compared_view  # noqa: PLC0415
    from mmsearch.tracking.mlflow.server import check_hosts, serve  # noqa: PLC0415

    allowed = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    check_hosts(host, allowed)
    opened = Workspace.at(workspace)
    if study and all_studies:
        raise InputError("give either --study or --all")
    names = opened.studies() if all_studies else list(dict.fromkeys(study or ()))
    journals = [opened.existing(name) for name in names] or [opened.existing(None)]
    messages = make_console(quiet=quiet or as_json)

    def show(base: str) -> None:
        leaderboard = _print_links(base, shown, messages, as_json=as_json)
        if browser:
            open_page(leaderboard)

    with opened.writable() as place:
        if place is not opened:
            messages.print(
                f"{str(workspace)!r} cannot be written: this is a copy of its MLflow database",
                style="yellow",
            )
        shown = _opened(place, journals, tracking_uri)
        tracker = shown[0][1]
        if tracker.uri.startswith(("http://", "https://")):
            show(without_userinfo(tracker.uri).rstrip("/"))
            return
        messages.print("starting the MLflow server ...")
        experiments = [each.experiment_id for _, each in shown]
        with serve(
            tracker.uri,
            tracker.artifacts,
            log_folder=place.root / "logs",
            host=host,
            port=port,
            allowed_hosts=allowed,
            stored=compared_view(experiments) if len(shown) > 1 else None,
        ) as server:
            if signal.SIGINT in stopping_signals():
                signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
            show(server.base)
            for base in server.elsewhere:
                messages.print(f"from other machines: {_links(base, shown)[0]['leaderboard']}")
            messages.print("press Ctrl-C to stop the server")
            code = server.process.wait()
            raise MMSearchError(f"the MLflow server ended with code {code}; see {server.log}")


def _opened(
    workspace: Workspace, journals: Sequence[Journal], uri: str | None
) -> list[tuple[Journal, StudyTracker]]:
    """Open the MLflow view of each study.

    Raises:
        InputError: they are in several stores.
        MMSearchError: MLflow cannot be reached.
    """
    from mmsearch.search.results.publish import open_tracker  # noqa: PLC0415 (imports wait)

    shown = [(journal, open_tracker(workspace, journal, uri)) for journal in journals]
    if len({tracker.uri for _, tracker in shown}) > 1:
        raise InputError(
            "these studies are in several MLflow stores; upload them to one, each with: "
            f"mmsearch sync --tracking-uri URI{options_in(journals[0].folder.parent, 'NAME')}"
        )
    return shown


def _print_links(
    base: str,
    shown: Sequence[tuple[Journal, StudyTracker]],
    messages: Console,
    *,
    as_json: bool,
) -> str:
    """Print the URLs of the pages; return that of the leaderboard."""
    urls, of_studies = _links(base, shown)
    names = [journal.name for journal, _ in shown]
    if as_json:
        print_json({"study": ", ".join(names), **urls, "studies": of_studies})
    else:
        out = make_console()
        noun = "study" if len(names) == 1 else "studies"
        messages.print(f"{noun} {', '.join(map(repr, names))} in MLflow:")
        for name, url in urls.items():
            if url is not None:
                out.print(f"{name:<11} {url}", style="bold")
        for each in of_studies if len(names) > 1 else ():
            out.print(f"{each['study']:<11} {each['summary']}", style="bold")
    return str(urls["leaderboard"])


def _links(
    base: str, shown: Sequence[tuple[Journal, StudyTracker]]
) -> tuple[dict[str, str | None], list[dict[str, str | None]]]:
    """Return the URLs of the pages by their names, and those of each study."""
    from mmsearch.search.results.selection import Plan  # noqa: PLC0415 (imports wait)
    from mmsearch.tracking.mlflow.links import (  # noqa: PLC0415
        charts_url,
        compared_url,
        leaderboard_url,
        plain_url,
        run_url,
    )

    of_studies = []
    for journal, tracker in shown:
        page = (base, tracker.experiment_id, tracker.facts.id)
        is_confirmed = Plan.read(journal) is not None
        of_studies.append(
            {
                "study": journal.name,
                "leaderboard": leaderboard_url(*page),
                "summary": run_url(base, tracker.experiment_id, tracker.parent_id),
                "confirmed": leaderboard_url(*page, kind="confirm") if is_confirmed else None,
                "plain": plain_url(*page),
            }
        )
    first = of_studies[0]
    leaderboard = first["leaderboard"]
    if len(shown) > 1:
        leaderboard = compared_url(base, [tracker.experiment_id for _, tracker in shown])
        first = dict.fromkeys(first)
    return {
        "leaderboard": leaderboard,
        "charts": charts_url(str(leaderboard)),
        "summary": first["summary"],
        "confirmed": first["confirmed"],
        "plain": first["plain"],
    }, of_studies


def open_page(url: str) -> bool:
    """Open a page in the user's browser, unless that would take over this terminal.

    Returns:
        Whether a browser was started.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    command = getattr(browser, "name", "")  # not every class of Python's has one
    if Path(command).name in _TEXT_BROWSERS:
        return False
    return browser.open(url)
