"""The MLflow UI in a real browser, over a study that was searched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect, sync_playwright

from mmsearch.search.results.publish import make_tracker
from mmsearch.search.results.selection import Confirmation
from mmsearch.search.results.summary import summarise
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.workspace import Workspace
from mmsearch.tracking.hyperparameters import ALWAYS_SHOWN
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked
from mmsearch.tracking.mlflow.client import connect, search_runs
from mmsearch.tracking.mlflow.links import charts_url, leaderboard_url, run_url
from tests.support.commands import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.entities import Run

    from tests.support.forked_cli import Warm


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",  # or it does not start as root
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000
OF_MLFLOW = (
    # It asks who is logged in, and a server without logins has no such page.
    re.compile(r"^(Failed to load resource: .*404.*|404) http://\S+/mlflow/users/current$"),
    # Its Assistant, gateway and jobs, which `mmsearch ui` does not serve.
    re.compile(r"404.* http://\S+/(mlflow/assistant|mlflow/gateway|3\.0/jobs)"),
    # Chromium's notice that a layout took more than a frame; the next frame has the rest.
    re.compile(r"ResizeObserver loop completed with undelivered notifications"),
)
"""Errors that every page of MLflow shows."""
N_TRIALS = 4
GAPS = """rows => rows.flatMap(row => {
    const texts = [...row.cells].map(cell => {
        const range = document.createRange()
        const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode()
        range.setStart(text, 0)
        range.setEnd(text, text.data.trimEnd().length)
        return range.getBoundingClientRect()
    })
    return texts.slice(1).map((text, index) => text.left - texts[index].right)
})"""
"""Returns the pixels between the texts of neighbouring cells."""


@pytest.fixture(scope="module")
def study(confirmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy a workspace whose best trials were confirmed."""
    folder = tmp_path_factory.mktemp("browsed")
    shutil.copytree(confirmed / "runs", folder / "runs")
    return folder


@pytest.fixture(scope="module")
def links(study: Path) -> Iterator[dict[str, str]]:
    """Serve the study; returns the links that `mmsearch ui` prints."""
    with served(study) as found:
        yield found


@contextmanager
def served(study: Path, *options: str) -> Iterator[dict[str, str]]:
    """Start `mmsearch ui`; returns the links that it prints."""
    words = [COMMAND, "ui", "--no-browser", *options]
    env = {**environment(study), "COLUMNS": "300"}
    with subprocess.Popen(words, cwd=study, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found: dict[str, str] = {}
            for line in process.stdout:
                if match := re.match(r"(\w+):? +(http://\S+)$", line):
                    found[match[1]] = match[2]
                if "Ctrl-C" in line:
                    break
            yield found
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser; each page that it opens has a profile of its own."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser: install Chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """Open a page wide enough for the charts."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1400})
    opened.set_default_timeout(PATIENCE_MS)
    return opened


@pytest.fixture
def errors(page: Page) -> Iterator[list[str]]:
    """Collect the errors of the page: exceptions, console errors, failed requests."""
    found: list[str] = []

    def note(error: str) -> None:
        if not any(pattern.search(error) for pattern in OF_MLFLOW):
            found.append(error)

    def on_error(error: object) -> None:
        note(f"{error}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            note(f"{message.text} {message.location.get('url')}")

    def on_response(response: Response) -> None:
        if response.status >= HTTPStatus.BAD_REQUEST:
            note(f"{response.status} {response.url}")

    page.on("pageerror", on_error)
    page.on("console", on_console)
    page.on("response", on_response)
    yield found
    page.remove_listener("pageerror", on_error)
    page.remove_listener("console", on_console)
    page.remove_listener("response", on_response)


def test_errors_of_a_page_are_seen(page: Page, links: dict[str, str], errors: list[str]) -> None:
    """Console errors, exceptions and missing pages make the other tests fail."""
    page.goto(links["leaderboard"])
    page.evaluate("console.error('by us')")
    page.evaluate("setTimeout(() => { throw new Error('thrown') }, 0)")
    page.evaluate("fetch('no/such/page')")
    page.wait_for_timeout(500)
    provoked = ("by us", "thrown", "no/such/page")
    assert all(any(word in error for error in errors) for word in provoked)
    assert all(any(word in error for word in provoked) for error in errors)


@pytest.fixture(scope="module")
def runs(study: Path) -> list[Run]:
    """The trials' runs, best first."""
    client = connect(f"sqlite:///{study}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    found = search_runs(client, [experiment.experiment_id], "tags.mmsearch.kind = 'trial'")
    return sorted(found, key=lambda run: float(run.data.metrics["dev_loss"]))


def test_leaderboard_has_every_trial_best_first(
    page: Page, links: dict[str, str], study: Path, errors: list[str]
) -> None:
    """N rows, in the order of the journal's scores, with the columns that matter."""
    page.goto(links["leaderboard"])
    best_first = [
        f"trial {trial.number}" for trial in ranked(Journal(study / "runs/few").records())
    ]
    rows = page.get_by_role("link", name=re.compile(r"^trial \d+$"))
    expect(rows).to_have_count(N_TRIALS)
    assert rows.all_inner_texts() == best_first
    assert errors == []


@pytest.mark.parametrize("width", [1280, 1500])
def test_what_one_comes_for_is_in_sight_at_the_first_visit(
    browser: Browser, links: dict[str, str], runs: list[Run], width: int
) -> None:
    """Without a click or a scroll, on the screen of a laptop whose browser has not been here."""
    trial = runs[0].info
    base = links["charts"].partition("/#/")[0]
    for address, result in (
        (links["leaderboard"], None),
        (links["summary"], "Confirmed on dev: 2 fresh seeds"),
        (run_url(base, trial.experiment_id, trial.run_id), "of few: complete, dev loss"),
    ):
        with browser.new_page(viewport={"width": width, "height": 800}) as page:
            page.goto(address)
            if result is None:
                row = page.locator(".ag-row").filter(has_text="COMPLETE").first
                shown = [
                    place.locator(f"[col-id*='{column}']").first
                    for column in ("dev_loss", *ALWAYS_SHOWN)
                    for place in (page.locator(".ag-header-row-column"), row)
                ]
            else:
                shown = [page.get_by_text(result).first, page.get_by_text("Show more")]
            for each in shown:
                expect(each).to_be_in_viewport(ratio=0.9)
            expect(page.get_by_text("MLflow Assistant").first).to_be_hidden()


def test_charts_lay_the_trials_over_each_other(
    page: Page, links: dict[str, str], errors: list[str]
) -> None:
    """Curves, parallel coordinates, embeddings and scatter plots, each with the trials in it."""
    page.goto(links["charts"])
    for title in ("Curves", "Hyperparameters", "Learnt embeddings", "Trade-offs"):
        expect(page.get_by_role("figure").filter(has_text=title)).to_have_count(1)
    curves = page.locator(".js-plotly-plot").filter(has=page.get_by_text("Step"))
    expect(curves).to_have_count(2)
    lines = curves.first.locator(".scatterlayer path.js-line")
    expect(lines.nth(N_TRIALS - 1)).to_be_attached()
    shapes = {line.get_attribute("d") for line in lines.all()}
    assert len(shapes) >= N_TRIALS, "each trial has a curve of its own"
    parallel = page.locator(".js-plotly-plot .parcoords, .parcoords")
    expect(parallel.first).to_be_visible()
    page.mouse.move(1000, 800)
    page.mouse.wheel(0, 3000)
    embeddings = page.locator("img[src*='get-artifact']")
    expect(embeddings.first).to_be_visible()
    widths = embeddings.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 2
    assert min(widths) > 100
    assert errors == []


@pytest.fixture(scope="module")
def uneven(study: Path, links: dict[str, str]) -> tuple[Journal, str]:
    """Upload a study with an early pruned and a diverged trial; returns its journal and charts."""
    journal = Journal(study / "uneven")
    shutil.copytree(study / "runs/few", journal.folder, ignore=shutil.ignore_patterns("confirm*"))
    facts = journal.read_study()
    assert facts is not None
    journal.write_study({**facts, "id": "uneven"})
    for number, dev in ((2, [3.0]), (3, [2.6, 300.0, 9000.0])):
        folder = journal.trial_folder(number)
        lines = (folder / "curve.jsonl").read_text().splitlines()[: len(dev)]
        values = [
            {**json.loads(line), "dev_loss": loss} for line, loss in zip(lines, dev, strict=True)
        ]
        (folder / "curve.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in values))
        outcome = json.loads((folder / "outcome.json").read_text())
        (folder / "outcome.json").write_text(json.dumps({**outcome, "state": "PRUNED"}))
    file, workspace = StudyFile.require(journal), Workspace(study / "runs")
    tracker = make_tracker(workspace, journal, file, f"sqlite:///{study}/runs/mlflow.db")
    tracker.open()
    for record in journal.records():
        tracker.show_trial(record, journal)
    tracker.show_study(summarise(journal, file, looks=()))
    base = links["charts"].partition("/#/")[0]
    return journal, charts_url(leaderboard_url(base, tracker.experiment_id, file.id))


def test_chart_shows_every_curve_to_its_end(
    page: Page, uneven: tuple[Journal, str], errors: list[str]
) -> None:
    """All points of all trials, and the ends of the good ones in view despite one at 9,000."""
    journal, url = uneven
    page.goto("about:blank")
    page.goto(url)
    charts = page.locator(".js-plotly-plot").filter(has=page.get_by_text("Step"))
    expect(charts).to_have_count(2)
    expect(charts.first.locator(".scatterlayer .trace").nth(N_TRIALS - 1)).to_be_attached()
    traces, (low, high) = charts.first.evaluate(
        "chart => [chart.data.map(trace => [trace.name, trace.x, trace.y]),"
        " chart._fullLayout.yaxis.range]"
    )
    shown = {
        name: [point for point in zip(steps, losses, strict=True) if point[0] is not None]
        for name, steps, losses in traces
        if steps
    }
    records = journal.records()
    assert shown == {
        record.name: [(line.step, line.dev_loss) for line in record.curve] for record in records
    }
    for record in records[:3]:
        assert low < record.curve[-1].dev_loss < high
    assert high < 4, "the diverged trial has not stretched the axis"
    assert errors == []


def test_trial_describes_itself(
    page: Page, links: dict[str, str], runs: list[Run], errors: list[str]
) -> None:
    """The overview of a run has its result, the command to reproduce it, and its figures."""
    base, info = links["charts"].partition("/#/")[0], runs[0].info
    page.goto(run_url(base, info.experiment_id, info.run_id))
    number = runs[0].data.tags["mmsearch.trial"]
    unfold(page)
    expect(page.get_by_text(f"Trial {number} of few: complete, dev loss").first).to_be_visible()
    expect(page.get_by_text(f"mmsearch replay {number} --study few").first).to_be_visible()
    expect(page.get_by_role("cell", name="embedding_dim", exact=True).first).to_be_visible()
    gaps = page.locator("table tr").evaluate_all(GAPS)
    assert len(gaps) > 8
    assert min(gaps) > 5, "columns do not run together"
    assert drawn(page) == [f"{name}.png&run_uuid={info.run_id}" for name in ("loss", "embedding")]
    assert errors == []


def test_study_describes_itself(page: Page, links: dict[str, str], errors: list[str]) -> None:
    """It has its result, the space, the exact command, and the figures."""
    page.goto(links["summary"])
    expect(page.get_by_text("Confirmed on dev: 2 fresh seeds").first).to_be_visible()
    unfold(page)
    command = page.get_by_text("mmsearch run --trials 4 --study few --corpus").first
    expect(command).to_be_visible()
    assert "--config few.toml" in command.inner_text()
    expect(page.get_by_text("hidden_width = 32").first).to_be_visible()
    names = [figure.partition(".png")[0] for figure in drawn(page)]
    assert names == ["confirmation", "history", "parallel_coordinates", "trade_off"]
    assert errors == []


def unfold(page: Page) -> None:
    """Expand a description, unless MLflow still has it expanded from the page before."""
    fold = page.get_by_text(re.compile("^Show (more|less)$"))
    expect(fold).to_be_visible()
    if fold.inner_text() == "Show more":
        fold.click()


def drawn(page: Page) -> list[str]:
    """Wait until the figures of a description are drawn; returns the names of their files."""
    images = page.locator("img[src*='get-artifact']")
    expect(images.first).to_be_visible()
    for image in images.all():
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth === 900", arg=image.element_handle())
    return [str(image.get_attribute("src")).partition("=figures/")[2] for image in images.all()]


def test_confirmation_has_a_row_a_candidate(
    page: Page, links: dict[str, str], study: Path, errors: list[str]
) -> None:
    """Candidates are sorted by their means over the seeds, each with its seeds below."""
    page.goto(links["confirmed"])
    confirmation = Confirmation.read(Journal(study / "runs/few"))
    assert confirmation is not None
    groups = page.get_by_text(re.compile(r"^Group: \d+$"))
    expect(groups).to_have_count(2)
    expected = [f"Group: {candidate.trial.number}" for candidate in confirmation.candidates]
    assert groups.all_inner_texts() == expected
    expect(page.get_by_role("link", name=re.compile(r"^trial \d+, seed \d$"))).to_have_count(4)
    for candidate in confirmation.candidates:
        mean = f"{candidate.mean:.10f}"[:7]
        expect(page.get_by_text(re.compile(rf"^{re.escape(mean)}\d*")).first).to_be_visible()
    assert errors == []


def test_studies_are_compared_on_one_page(
    page: Page, study: Path, small_corpus: Path, warm_command: Warm, errors: list[str]
) -> None:
    """All trials of both in one leaderboard, best first, with its columns; and in one chart."""
    shutil.copytree(study / "runs", study / "two/runs")
    more = ("run", "--study", "more", "--corpus", small_corpus, "-n", 1, "--steps", 40)
    assert warm_command(*more, folder=study / "two").returncode == 0
    with served(study / "two", "--all") as links:
        page.goto(links["leaderboard"])
        rows = page.get_by_role("link", name=re.compile(r"^trial \d+$"))
        expect(rows).to_have_count(N_TRIALS + 1)
        page.set_viewport_size({"width": 1280, "height": 900})
        for column in ("dev_loss", *ALWAYS_SHOWN):
            heading = page.locator(".ag-header-cell").filter(has_text=column)
            expect(heading.first).to_be_in_viewport(ratio=0.9)
        page.set_viewport_size({"width": 1600, "height": 1400})
        page.goto(links["charts"])
        curves = page.locator(".js-plotly-plot").filter(has=page.get_by_text("Step"))
        lines = curves.first.locator(".scatterlayer path.js-line")
        expect(lines.nth(N_TRIALS)).to_be_attached()
        assert errors == []
        page.goto("about:blank")
