"""`mmsearch ui`: open the MLflow UI on a study."""

from __future__ import annotations

import signal
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from mmsearch.errors import MMSearchError
from mmsearch.search.cli import options
from mmsearch.search.display.console import make_console, print_json
from mmsearch.search.study.workspace import Workspace

_TEXT_BROWSERS = frozenset({"elinks", "links", "lynx", "w3m", "www-browser"})
"""Browsers that Python starts in the foreground of the terminal where no display is set."""


def ui(  # noqa: PLR0913 (each is one flag)
    *,
    study: options.Study = None,
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
    """Open the MLflow UI on a study's comparison, and serve it until Ctrl-C."""
    from mmsearch.search.results.publish import open_tracker  # noqa: PLC0415 (imports wait)
    from mmsearch.search.results.selection import Plan  # noqa: PLC0415
    from mmsearch.search.study.urls import without_userinfo  # noqa: PLC0415
    from mmsearch.tracking.mlflow.links import (  # noqa: PLC0415
        charts_url,
        leaderboard_url,
        plain_url,
        run_url,
    )
    from mmsearch.tracking.mlflow.server import check_hosts, serve  # noqa: PLC0415

    allowed = [name.strip() for name in (allowed_hosts or "").split(",") if name.strip()]
    check_hosts(host, allowed)
    opened = Workspace.at(workspace)
    journal = opened.existing(study)
    tracker = open_tracker(opened, journal, tracking_uri)
    out, messages = make_console(), make_console(quiet=quiet or as_json)

    def links(base: str) -> dict[str, str | None]:
        """Return the URLs of the pages by their names."""
        page = (base, tracker.experiment_id, tracker.facts.id)
        leaderboard = leaderboard_url(*page)
        is_confirmed = Plan.read(journal) is not None
        return {
            "leaderboard": leaderboard,
            "charts": charts_url(leaderboard),
            "summary": run_url(base, tracker.experiment_id, tracker.parent_id),
            "confirmed": leaderboard_url(*page, kind="confirm") if is_confirmed else None,
            "plain": plain_url(*page),
        }

    def show(base: str) -> None:
        urls = links(base)
        if as_json:
            print_json({"study": journal.name, **urls})
        else:
            messages.print(f"study {journal.name!r} in MLflow:")
            for name, url in urls.items():
                if url is not None:
                    out.print(f"{name:<11} {url}", style="bold")
        if browser:
            open_page(str(urls["leaderboard"]))

    if tracker.uri.startswith(("http://", "https://")):
        show(without_userinfo(tracker.uri).rstrip("/"))
        return
    messages.print("starting the MLflow server ...")
    with serve(
        tracker.uri,
        tracker.artifacts,
        log_folder=opened.root / "logs",
        host=host,
        port=port,
        allowed_hosts=allowed,
    ) as server:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        show(server.base)
        for base in server.elsewhere:
            messages.print(f"from other machines: {links(base)['leaderboard']}")
        messages.print("press Ctrl-C to stop the server")
        code = server.process.wait()
        raise MMSearchError(f"the MLflow server ended with code {code}; see {server.log}")


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
