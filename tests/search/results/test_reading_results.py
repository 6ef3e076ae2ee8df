"""The page and the script that say how to read results without mmsearch."""

import json
import re
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from markdown_it import MarkdownIt
from mlflow import MlflowClient
from safetensors.numpy import load_file

from mmsearch.data.contexts import build_contexts
from mmsearch.data.corpus import Vocabulary
from mmsearch.model.checkpoint import from_bytes
from mmsearch.model.mlp import loss
from tests.support.commands import environment
from tests.support.in_process import run_in_process

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "results.md").read_text()
SCRIPT = ROOT / "docs" / "read_results.py"
SELDOM = {
    "error.txt",
    "excluded.json",
    ("mmsearch.excluded", "trial"),
    ("mmsearch.excluded", "the study"),
    "logs/",
    ("figures/importance.png", "study"),
    ("mmsearch.reason", "confirm"),
    ("mmsearch.reason", "extend"),
    # Where repeats are kept.
    *(
        (f"{metric}_{part}", kind)
        for metric in ("loss/dev", "dev_loss")
        for part in ("in_train", "not_in_train")
        for kind in ("trial", "confirm", "extend")
    ),
}
"""What the workspace of this test does not come to have."""


def run_python(folder: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder that holds `runs`, where mmsearch cannot be imported."""
    return subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.modules['mmsearch'] = None\n{code}", *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def read_results(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the docs."""
    code = "import runpy; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return run_python(folder, code, str(SCRIPT), "runs", "few", *words)


@pytest.fixture(scope="session")
def printed(told: Path) -> str:
    """Return what the script prints."""
    done = read_results(told, "emma", "olivia")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_script_reads_a_study_without_mmsearch(told: Path, printed: str) -> None:
    """Plain clients give what our own commands give, and the three records agree."""
    done = run_in_process("trials", "--study", "few", "--json", folder=told)
    trials = json.loads(done.output)
    rows = re.findall(r"(?m)^(\d+) +([\d.]+)  ", printed)
    assert [(int(number), float(loss)) for number, loss in rows] == [
        (trial["trial"], round(trial["dev_loss"], 6)) for trial in trials
    ]
    assert f"400    {trials[0]['dev_loss']:.6f}" in printed
    assert printed.endswith("the three agree on all 4 trials\n")


def test_script_scores_words_as_training_does(told: Path, printed: str) -> None:
    """Its few lines of NumPy are the network that torch has trained."""
    number = re.findall(r"(?m)^Files: what the weights of trial (\d+) say", printed)[0]
    found = re.findall(r"(?m)^emma +(\S+)$", printed)[0]
    folder = told / "runs" / "few" / "trials" / f"{int(number):04d}"
    block_size = json.loads((folder / "spec.json").read_text())["spec"]["block_size"]
    study = json.loads((told / "runs" / "few" / "study.json").read_text())
    vocabulary = Vocabulary(characters=tuple(study["vocabulary"]))
    contexts = build_contexts(["emma"], vocabulary, block_size)
    parameters = from_bytes((folder / "weights.safetensors").read_bytes())
    assert float(found) == pytest.approx(
        float(loss(parameters, contexts.inputs, contexts.targets)), abs=1e-5
    )


def test_script_tells_records_apart(copied: Path) -> None:
    """Its agreement could fail: a value changed in one store is named."""
    changes = {
        "mlflow": (
            ("UPDATE metrics SET value = 9.0 WHERE key = 'loss/dev'", "curve in MLflow"),
            ("UPDATE params SET value = '0.5' WHERE key = 'learning_rate'", "learning_rate"),
            ("UPDATE runs SET status = 'KILLED'", "status"),
        ),
        "optuna": (
            ("UPDATE trial_values SET value = 9.0", "dev loss"),
            ("UPDATE trial_params SET param_value = 7 WHERE param_name = 'block_size'", "block_"),
            ("UPDATE trial_intermediate_values SET intermediate_value = 9", "curve in Optuna"),
        ),
    }
    for database, statements in changes.items():
        with closing(sqlite3.connect(copied / "runs" / f"{database}.db")) as connection:
            for statement, _ in statements:
                assert connection.execute(statement).rowcount
            connection.commit()
    done = read_results(copied)
    assert done.returncode == 1, done.stderr
    for _, named in [*changes["mlflow"], *changes["optuna"]]:
        assert re.search(rf"(?m)^trial 0: {named}\w* differs$", done.stdout), named


def test_script_names_a_character_that_no_word_has(searched: Path) -> None:
    """A word outside of the vocabulary is a line, and no traceback."""
    done = read_results(searched, "Emma!")
    assert done.returncode == 2
    assert "no word of this study has '!E'" in done.stderr


def tables(page: str) -> dict[str, list[list[str]]]:
    """Return the rows of each table, by the heading above it and its first cell.

    A cell is its code where it begins with some, else its text.
    """
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for block in page.split("\n\n"):
        if block.startswith("#"):
            heading = block.lstrip("# ").replace("`", "")
        if block.startswith("|"):
            header, _, *rows = (line.strip("| ").split(" | ") for line in block.splitlines())
            assert f"{heading}: {header[0]}" not in found
            found[f"{heading}: {header[0]}"] = [
                [re.sub(r"^`([^`]+)`.*", r"\1", cell) for cell in row] for row in rows
            ]
    return found


def by_kind(rows: Iterable[list[str]]) -> set[tuple[str, str]]:
    """Return each name with each of its kinds of run."""
    return {(row[0], kind) for row in rows for kind in row[1].split(", ")}


def there(folder: Path) -> dict[str, set[Any]]:
    """Collect every name in a workspace, by the tables of the page."""
    runs, study = folder / "runs", folder / "runs" / "few"
    folders = [study / kind / "0000" for kind in ("trials", "confirm", "extend")]
    trial, specs = folders[0], [json.loads((each / "spec.json").read_text()) for each in folders]
    ledger = next((folder / ".local/share/mmsearch/ledger").glob("*.jsonl")).read_text()
    look = json.loads(ledger.splitlines()[-1])
    curve = (trial / "curve.jsonl").read_text().splitlines()
    top = {f"{path.name}/" if path.is_dir() else path.name for path in runs.iterdir()}
    inside = {path.name for path in study.iterdir()} - {"trials", "confirm", "extend"}
    return {
        "Files: file": (top - {"few/", "odd/"})
        | {f"STUDY/{name}" for name in inside}
        | {"STUDY/trials/0000/", "STUDY/confirm/0000/", "STUDY/extend/0000/"},
        "A trial's folder: file": {path.name for each in folders for path in each.iterdir()},
        "study.json: field": set(json.loads((study / "study.json").read_text())),
        "spec.json, spec: field": {name for each in specs for name in each["spec"]},
        "spec.json, facts: field": {name for each in specs for name in each["facts"]},
        "curve.jsonl: field": {name for line in curve for name in json.loads(line)},
        "outcome.json: field": set(json.loads((trial / "outcome.json").read_text())),
        "baselines.json: field": set(json.loads((study / "baselines.json").read_text())),
        "confirm.json: field": set(json.loads((study / "confirm.json").read_text())),
        "weights.safetensors: tensor": set(load_file(trial / "weights.safetensors")),
        "The ledger: field": set(look),
        "A look's result: field": set(look["result"]),
        **in_optuna(runs / "optuna.db"),
        **in_mlflow(runs / "mlflow.db"),
    }


def in_optuna(database: Path) -> dict[str, set[Any]]:
    """Collect the names in Optuna's storage."""
    url = f"sqlite:///{database}"
    names = optuna.get_all_study_names(url)
    assert {name.rpartition("/")[0] for name in names} == {"", "mmsearch/test"}
    params, attributes = set(), set()
    for name in names:
        study = optuna.load_study(study_name=name, storage=url)
        owner = "a look" if "/" in name else "a trial"
        attributes |= {(key, "the study") for key in study.user_attrs}
        for trial in study.trials:
            params |= set(trial.params)
            attributes |= {(key, owner) for key in trial.user_attrs}
    return {"Optuna: param": params, "Optuna: user attribute": attributes}


def in_mlflow(database: Path) -> dict[str, set[Any]]:
    """Collect the names in MLflow's store, each with the kinds of run that have it."""
    client = MlflowClient(f"sqlite:///{database}")
    found: dict[str, set[Any]] = defaultdict(set)
    for experiment in client.search_experiments(filter_string="name LIKE 'mmsearch/%'"):
        for run in client.search_runs([experiment.experiment_id]):
            kind = run.data.tags["mmsearch.kind"]
            found["MLflow: kind"].add(kind)
            for table, names in (
                ("Params: param", run.data.params),
                ("Metrics: metric", run.data.metrics),
                ("Tags: tag", run.data.tags),
                ("Artifacts: artifact", artifacts(client, run.info.run_id)),
            ):
                found[table] |= {(general(name), kind) for name in names}
    # Where the code is no checkout, there is no commit to name.
    commit = "mlflow.source.git.commit"
    found["Tags: tag"] |= {
        (commit, kind) for kind in ("study", "trial", "confirm", "extend", "final-test")
    }
    return found


def artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    """Return the paths of a run's artifacts."""
    paths: list[str] = []
    for entry in client.list_artifacts(run_id, folder):
        paths += artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return paths


def general(name: str) -> str:
    """Return the name as the page has it."""
    name = re.sub(r"^mmsearch\.version\..*", "mmsearch.version.PACKAGE", name)
    name = re.sub(r"^space\..*", "space.HYPERPARAMETER", name)
    return re.sub(r"^images/embedding.*", "images/embedding*", name)


def test_page_has_every_name_and_no_other(told: Path) -> None:
    """A file, field, param, metric, tag or artifact is in the page, or the page is behind."""
    said: Mapping[str, set[Any]] = {
        key: by_kind(rows)
        if key.startswith(("Params", "Metrics", "Tags", "Artifacts", "Optuna: user"))
        else {row[0] for row in rows}
        for key, rows in tables(PAGE).items()
    }
    found = there(told)
    assert set(said) == set(found)
    for key, names in said.items():
        assert names - found[key] <= SELDOM, f"{key}: of the page alone"
        assert found[key] <= names, f"{key}: not in the page"


def test_snippets_of_the_page_run(told: Path) -> None:
    """Each of the page's Python blocks works on a workspace, in a folder that holds `runs`."""
    blocks = [t.content for t in MarkdownIt().parse(PAGE) if t.type == "fence"]
    python = [block for block in blocks if block.startswith("import")]
    assert len(python) == 3
    done = run_python(told, "\n".join(python))
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^400 \d\.\d+$", done.stdout)
    assert "'W1': (" in done.stdout
