"""The MLflow UI as a person sees it: in a real browser, over a study that was searched."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from mmsearch.tracking.journal import Journal, ranked
from mmsearch.tracking.store import connect, search_runs
from mmsearch.tracking.ui import compare_url, run_url
from tests.commands import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.entities import Run

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
N_TRIALS = 4


@pytest.fixture(scope="module")
def study(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy a searched workspace; MLflow keeps where its artifacts lie, so they stay there."""
    folder = tmp_path_factory.mktemp("browsed")
    shutil.copytree(searched / "runs", folder / "runs")
    return folder


@pytest.fixture(scope="module")
def links(study: Path) -> Iterator[dict[str, str]]:
    """Start `mmsearch ui`; gives the links that it prints."""
    words = [COMMAND, "ui", "--no-browser"]
    env = {**environment(study), "COLUMNS": "300"}
    with subprocess.Popen(words, cwd=study, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found: dict[str, str] = {}
        for line in process.stdout:
            if match := re.match(r"(\w+):? +(http://\S+)$", line):
                found[match[1]] = match[2]
            if "Ctrl-C" in line:
                break
        yield found
        process.terminate()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Open a browser's page, wide enough for the charts."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser: install Chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        opened = browser.new_page(viewport={"width": 1600, "height": 1400})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


@pytest.fixture
def errors(page: Page) -> Iterator[list[str]]:
    """Gather what goes wrong in the page."""
    found: list[str] = []

    def on_error(error: object) -> None:
        found.append(f"{error}")

    page.on("pageerror", on_error)
    yield found
    page.remove_listener("pageerror", on_error)


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
    expect(rows).to_have_count(N_TRIALS, timeout=PATIENCE_MS)
    assert rows.all_inner_texts() == best_first
    for column in ("dev_loss", "n_parameters", "wall_s"):
        expect(page.get_by_text(column, exact=True).first).to_be_visible()
    assert errors == []


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


def test_two_trials_compare(
    page: Page, links: dict[str, str], runs: list[Run], errors: list[str]
) -> None:
    """MLflow's own page of two runs side by side opens by our link."""
    base, experiment = links["charts"].partition("/#/")[0], runs[0].info.experiment_id
    page.goto(compare_url(base, experiment, [run.info.run_id for run in runs[:2]]))
    expect(page.get_by_text("Comparing 2 Runs").first).to_be_visible()
    for run in runs[:2]:
        expect(page.get_by_text(str(run.info.run_name), exact=True).first).to_be_visible()
    assert errors == []


def test_trial_shows_its_figures(
    page: Page, links: dict[str, str], runs: list[Run], errors: list[str]
) -> None:
    """The embedding's PNG, drawn in the artifact page of a run."""
    base, info = links["charts"].partition("/#/")[0], runs[0].info
    page.goto(run_url(base, info.experiment_id, info.run_id, "artifacts/figures/embedding.png"))
    image = page.locator("img[src^='blob:'], img[src*='embedding.png']").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") == 900
    assert errors == []


def test_trial_describes_itself(
    page: Page, links: dict[str, str], runs: list[Run], errors: list[str]
) -> None:
    """The overview of a run: a table, the command to have it again, and its figures."""
    base, info = links["charts"].partition("/#/")[0], runs[0].info
    page.goto(run_url(base, info.experiment_id, info.run_id))
    number = runs[0].data.tags["mmsearch.trial"]
    expect(page.get_by_text(f"mmsearch replay {number} --study few").first).to_be_visible()
    expect(page.get_by_role("cell", name="embedding_dim", exact=True).first).to_be_visible()
    images = page.locator("img[src*='get-artifact']")
    expect(images).to_have_count(2)
    for image in images.all():
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 100", arg=image.element_handle())
    assert errors == []
