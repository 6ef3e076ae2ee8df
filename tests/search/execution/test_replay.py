"""`mmsearch replay`: a trial comes out as it was recorded, or it is said that it does not."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.search.execution.replay import TOLERANCE_NATS
from mmsearch.search.study import provenance
from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.commands import environment
from tests.support.fault_injection import START_WORKER, replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

N_SEGMENTS = 4
CONFIG = f"""
[training]
{plain_settings.TRAINING}
steps = 400
segments = {N_SEGMENTS}
[search]
{plain_settings.SEARCH}
pruner = "median"
[space]
embedding_dim = 4
hidden_width = 32
block_size = 3
learning_rate = {{ low = 0.01, high = 1e30, log = true }}
weight_decay = {{ low = 0, high = 100 }}
context_noise = 0
"""
# A weight is multiplied by 1 - rate * decay at each step: by -1.07 it leaves slowly.
POINTS = ((1e30, 0.0), (0.1, 20.7), (0.2, 0.0), (0.3, 0.0), (0.4, 0.0), (0.5, 0.0), (0.6, 0.0))
AT_ONCE, LATER, COMPLETE, PRUNED = 0, 1, 2, 7
OTHER_ARITHMETIC = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
"""What makes torch and its matrix products add up in another order, where they know of it."""
FIRST_WEIGHTS = """
import json, sys
from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import Words, split_corpus
from mmsearch.model.spec import TrialSpec
from mmsearch.search.execution import worker
from pathlib import Path

corpus = read_corpus(Path(sys.argv[1]))
split = split_corpus(corpus)
worker.start(Words(split.train, split.dev, corpus.vocabulary))
spec = TrialSpec.from_json(json.loads(sys.argv[2]))
print(worker.run_segment(spec, (), None).weights_sha256)
"""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> Path:
    """Train trials of every end; the folder that holds `runs`, to be copied by who changes it."""
    folder = tmp_path_factory.mktemp("trained")
    points = [*POINTS, (0.01, 0.0)]
    tables = (f"[[enqueue]]\nlearning_rate = {r}\nweight_decay = {d}\n" for r, d in points)
    (folder / "config.toml").write_text(CONFIG + "".join(tables))
    words = ("run", "--corpus", small_corpus, "--config", "config.toml", "-n", 6, "--workers", 1)
    done = warm_command(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    records = Journal(folder / "runs/few").records()
    assert [r.state for r in records] == ["FAIL"] * 2 + ["COMPLETE"] * 5 + ["PRUNED"]
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """Give a test a workspace of its own."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def said(done: Done) -> str:
    """Give what a command printed, on one line."""
    return " ".join(done.stdout.split())


def edit(folder: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change how a trial began, by hand."""
    path = Journal(folder / "runs/few").trial_folder(number) / "spec.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_line(folder: Path, segment: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change one line of the complete trial's curve, by hand."""
    path = Journal(folder / "runs/few").trial_folder(COMPLETE) / "curve.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines[segment - 1])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def edit_torch(folder: Path, number: int = COMPLETE) -> None:
    """Say that a trial was trained with another torch."""
    edit(folder, number, lambda start: start["facts"]["versions"].update(torch="2.0.1"))


def add_to_loss(line: dict[str, Any], nats: float) -> None:
    """Change the dev loss of a segment."""
    line["dev_loss"] += nats


def nudge(line: dict[str, Any]) -> None:
    """Change the dev loss of a segment by its last digit."""
    line["dev_loss"] = math.nextafter(line["dev_loss"], math.inf)


def nudge_train(line: dict[str, Any]) -> None:
    """Change the last train loss of a segment likewise."""
    line["train"][-1][1] = math.nextafter(line["train"][-1][1], math.inf)


@pytest.mark.parametrize(("number", "n_segments"), [(COMPLETE, N_SEGMENTS), (PRUNED, 1)])
def test_trial_comes_out_bit_for_bit(
    trained: Path, warm_command: Warm, number: int, n_segments: int
) -> None:
    """A record that can be made again from its spec is one that can be believed."""
    done = warm_command("replay", number, folder=trained)
    assert done.returncode == 0, done.stderr
    count = f"{n_segments} of {n_segments} segments"
    assert said(done).startswith(f"trial {number} is reproduced bit for bit: {count}")
    values = json.loads(warm_command("replay", number, "--json", folder=trained).stdout)
    assert values == {
        "model": f"trial {number}",
        "trial": number,
        "dev_loss": Journal(trained / "runs/few").read(number).dev_loss,
        "is_reproduced": True,
        "is_identical": True,
        "compared": "bit for bit",
        "changed": {},
        "n_segments": n_segments,
        "n_equal_segments": n_segments,
        "max_gap_nats": 0,
        "parting_step": None,
        "recorded_end": "",
        "end": "",
    }


@pytest.mark.parametrize(("number", "n_segments"), [(AT_ONCE, 0), (LATER, 1)])
def test_divergence_comes_out_at_its_step(
    trained: Path, warm_command: Warm, number: int, n_segments: int
) -> None:
    """A failure is a result, too: it comes again, with its reason, after as many segments."""
    record = Journal(trained / "runs/few").read(number)
    assert record.outcome is not None
    assert len(record.curve) == n_segments
    done = warm_command("replay", number, folder=trained)
    assert done.returncode == 0, done.stderr
    assert f"bit for bit: {n_segments} of {n_segments} segments" in said(done)
    assert said(done).endswith(record.outcome.reason)


def test_divergence_at_another_step_is_found_out(copy: Path, warm_command: Warm) -> None:
    """Diverging is not enough: the reason is a part of the record."""
    path = Journal(copy / "runs/few").trial_folder(LATER) / "outcome.json"
    reason = json.loads(path.read_text())["reason"]
    step = int(reason.split(" at step ")[1].split()[0])
    path.write_text(path.read_text().replace(f"at step {step} of", f"at step {step - 1} of"))
    done = warm_command("replay", LATER, folder=copy)
    assert done.returncode == 1
    assert f"trial {LATER} is not reproduced" in said(done)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(nudge, id="dev loss"),
        pytest.param(nudge_train, id="train loss"),
        pytest.param(lambda line: line.update(weights_sha256="0" * 64), id="weights"),
        pytest.param(lambda line: line.update(step=999), id="step"),
        pytest.param(lambda line: line.update(segment=7), id="segment"),
    ],
)
def test_altered_record_is_found_out(
    copy: Path, warm_command: Warm, change: Callable[[dict[str, Any]], object]
) -> None:
    """The last digit of one number in a curve is enough."""
    edit_line(copy, 2, change)
    done = warm_command("replay", COMPLETE, folder=copy)
    assert done.returncode == 1
    sentence = f"trial {COMPLETE} is not reproduced: 3 of {N_SEGMENTS} segments are equal"
    assert said(done).startswith(sentence)
    assert "step 200" in said(done)


def cut_curve(folder: Path) -> None:
    """Lose the last line of the complete trial's curve."""
    path = Journal(folder / "runs/few").trial_folder(COMPLETE) / "curve.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def lengthen_weights(folder: Path) -> None:
    """Add a byte to the complete trial's weights."""
    path = Journal(folder / "runs/few").weights_path(COMPLETE)
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a segment is missing": cut_curve,
    "the weights are others": lengthen_weights,
    "a loss is no number": lambda f: edit_line(f, 2, lambda line: line.update(dev_loss=math.nan)),
    "the versions are no table": lambda f: edit(
        f, COMPLETE, lambda start: start["facts"].update(versions="2.0")
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_record_is_no_match(copy: Path, warm_command: Warm, kind: str) -> None:
    """What is left of a record may be reproduced; the record is damaged all the same."""
    DAMAGE[kind](copy)
    done = warm_command("replay", COMPLETE, folder=copy)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_divergence_before_the_record_ends_is_no_match(copy: Path, warm_command: Warm) -> None:
    """Where nothing is left to compare, nothing agrees, whatever the versions."""
    edit_torch(copy, LATER)
    edit(copy, LATER, lambda start: start["spec"].update(learning_rate=1e30))
    done = warm_command("replay", LATER, folder=copy)
    assert done.returncode == 1
    assert f"trial {LATER} is not reproduced: 0 of 1 segments" in said(done)


def test_confirmed_model_comes_out_bit_for_bit(copied: Path, warm_command: Warm) -> None:
    """Without a number the chosen model is trained again: the one that is tested and shipped."""
    assert warm_command("confirm", "--top", 1, "--seeds", 2, folder=copied).returncode == 0
    chosen = json.loads(warm_command("sample", "-n", 1, "--json", folder=copied).stdout)
    done = warm_command("replay", folder=copied)
    assert done.returncode == 0, done.stderr
    assert said(done).startswith(f"{chosen['model']} is reproduced bit for bit")
    assert ", seed " in chosen["model"]


def test_dead_worker_is_one_clear_line(trained: Path, warm_command: Warm) -> None:
    """A worker that the kernel kills is no traceback."""
    patch = replaced(START_WORKER, "os.abort")
    done = warm_command("replay", COMPLETE, folder=trained, patch=patch)
    assert done.returncode == 1
    assert "error: the worker process died in segment 1" in done.stderr


def test_altered_spec_is_found_out(copy: Path, warm_command: Warm) -> None:
    """Numbers under hyperparameters that they were not made with are no record."""
    edit(copy, COMPLETE, lambda start: start["spec"].update(learning_rate=0.21))
    done = warm_command("replay", COMPLETE, "--json", folder=copy)
    assert done.returncode == 1
    values = json.loads(done.stdout)
    assert not values["is_reproduced"]
    assert (values["n_segments"], values["n_equal_segments"]) == (N_SEGMENTS, 0)


def test_other_versions_ask_for_a_tolerance(copy: Path, warm_command: Warm) -> None:
    """With another torch equal bits cannot be asked for, and which one it was is said."""
    edit_torch(copy)
    edit_line(copy, N_SEGMENTS, nudge)
    now = provenance.versions()["torch"]
    done = warm_command("replay", COMPLETE, folder=copy)
    assert done.returncode == 0, done.stderr
    assert all(version in said(done) for version in ("torch: 2.0.1", now))
    assert f"trial {COMPLETE} is reproduced within {TOLERANCE_NATS:g} nats" in said(done)
    values = json.loads(warm_command("replay", COMPLETE, "--json", folder=copy).stdout)
    assert values["compared"] == "within a tolerance"
    assert values["changed"] == {"torch": ["2.0.1", now]}
    assert values["is_reproduced"]
    assert not values["is_identical"]
    assert 0 < values["max_gap_nats"] < 1e-12


def test_other_versions_excuse_no_other_result(copy: Path, warm_command: Warm) -> None:
    """A score beyond the tolerance is another score, whatever has changed."""
    edit_torch(copy)
    edit_line(copy, N_SEGMENTS, lambda line: add_to_loss(line, 2 * TOLERANCE_NATS))
    done = warm_command("replay", COMPLETE, folder=copy)
    assert done.returncode == 1
    assert "torch: 2.0.1" in said(done)
    assert f"trial {COMPLETE} is not reproduced" in said(done)


@pytest.mark.parametrize("command", [("replay", 8), ("replay", 8, "--json")])
def test_no_such_trial_is_one_clear_line(
    trained: Path, warm_command: Warm, command: tuple[object, ...]
) -> None:
    """A slip of the fingers trains nothing, and says where the numbers are."""
    done = warm_command(*command, folder=trained)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr == "error: study 'few' has no trial 8; see: mmsearch trials\n"


def test_trial_without_a_segment_has_nothing_to_compare(copy: Path, warm_command: Warm) -> None:
    """A trial that has only begun is neither the same nor another."""
    folder = Journal(copy / "runs/few").trial_folder(COMPLETE)
    for name in ("curve.jsonl", "outcome.json", "weights.safetensors"):
        (folder / name).unlink()
    done = warm_command("replay", COMPLETE, folder=copy)
    assert done.returncode == 2
    assert f"trial {COMPLETE} has no finished segment" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_replay_writes_nothing(copy: Path, warm_command: Warm) -> None:
    """To check a record must not change it: not a file of the workspace, its databases neither."""
    edit_line(copy, 1, nudge)

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (copy / "runs").rglob("*") if path.is_file()}

    before = contents()
    assert {"optuna.db", "mlflow.db"} <= {path.name for path in before}
    codes = [
        warm_command("replay", number, folder=copy).returncode
        for number in (COMPLETE, PRUNED, LATER, 8)
    ]
    assert codes == [1, 0, 0, 2]
    assert contents() == before


def test_other_arithmetic_is_told(copy: Path, warm_command: Warm, small_corpus: Path) -> None:
    """Bits that differ are not called equal; within the tolerance they are, if torch is another."""
    record = Journal(copy / "runs/few").read(COMPLETE)
    first = subprocess.run(
        [sys.executable, "-c", FIRST_WEIGHTS, small_corpus, json.dumps(record.spec.to_json())],
        env=environment(copy, OTHER_ARITHMETIC),
        capture_output=True,
        text=True,
        check=True,
    )
    if first.stdout.strip() == record.curve[0].weights_sha256:
        pytest.skip(f"this processor computes the same bits under {OTHER_ARITHMETIC}")
    done = warm_command("replay", COMPLETE, folder=copy, **OTHER_ARITHMETIC)
    assert done.returncode == 1
    sentence = f"trial {COMPLETE} is not reproduced: 0 of {N_SEGMENTS} segments are equal"
    assert said(done).startswith(sentence)
    edit_torch(copy)
    again = warm_command("replay", COMPLETE, "--json", folder=copy, **OTHER_ARITHMETIC)
    assert again.returncode == 0, again.stdout
    values = json.loads(again.stdout)
    assert values["is_reproduced"]
    assert not values["is_identical"]
    assert values["n_equal_segments"] == 0
    assert 0 < values["max_gap_nats"] < 1e-5
