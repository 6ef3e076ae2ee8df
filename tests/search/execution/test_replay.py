"""`mmsearch replay`: a trial comes out as it was recorded, or it is said that it does not."""

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmsearch.search.execution import replay
from mmsearch.search.execution.replay import TOLERANCE_NATS
from mmsearch.search.execution.worker import CallResult, run_segments
from mmsearch.search.study import provenance
from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.cli_contract import contents
from tests.support.fault_injection import KILL_WORKERS, SPAWN_WORKERS
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

Replayed = Callable[..., dict[str, Any]]

N_SEGMENTS = 5
# A weight is multiplied by 1 - rate * decay at each step: by -1.07 it leaves slowly.
CONFIG = f"""
[training]
{plain_settings.TRAINING}
steps = 500
segments = {N_SEGMENTS}
[search]
{plain_settings.SEARCH}
pruner = "none"
[space]
embedding_dim = 4
hidden_width = 32
block_size = 3
learning_rate = {{ low = 0.01, high = 1e30, log = true }}
weight_decay = {{ low = 0, high = 100 }}
context_noise = 0
[[enqueue]]
learning_rate = 1e30
weight_decay = 0
[[enqueue]]
learning_rate = 0.1
weight_decay = 20.7
[[enqueue]]
learning_rate = 0.2
weight_decay = 0
"""
AT_ONCE, LATER, COMPLETE = 0, 1, 2
OTHER_ARITHMETIC = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
"""What makes torch and its matrix products add up in another order, where they know of it."""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> Path:
    """Train trials of three ends; the folder that holds `runs`, to be copied by who changes it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.toml").write_text(CONFIG)
    words = ("run", "--corpus", small_corpus, "--config", "config.toml", "-n", 1, "--workers", 1)
    warm_command(*words, folder=folder, code=0)
    records = Journal(folder / "runs/few").records()
    assert [(r.state, len(r.curve)) for r in records[:2]] == [("FAIL", 0), ("FAIL", 1)]
    assert [(r.state, len(r.curve)) for r in records[2:]] == [("COMPLETE", N_SEGMENTS)]
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """Give a test a workspace of its own."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture
def replayed(warm_command: Warm) -> Replayed:
    """Replay a trial; returns the JSON. The exit code must agree, and no file may change."""

    def call(folder: Path, *words: object, **env: str) -> dict[str, Any]:
        before = contents(folder)
        patch = SPAWN_WORKERS if env else ""
        done = warm_command(
            "replay", *words, "--json", folder=folder, patch=patch, code=None, **env
        )
        assert contents(folder) == before
        values: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if values["is_reproduced"] else 1)
        return values

    return call


def edit(folder: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change how a trial began, by hand."""
    path = Journal(folder / "runs/few").trial_folder(number) / "spec.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_lines(folder: Path, *changes: Callable[[dict[str, Any]], object] | None) -> None:
    """Change lines of the complete trial's curve, from the last one back, by hand."""
    path = Journal(folder / "runs/few").trial_folder(COMPLETE) / "curve.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, change in zip(reversed(lines), changes, strict=False):
        if change is not None:
            change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def edit_torch(folder: Path, number: int = COMPLETE) -> None:
    """Say that a trial was trained with another torch."""
    edit(folder, number, lambda start: start["facts"]["versions"].update(torch="2.0.1"))


def nudge(line: dict[str, Any]) -> None:
    """Change the dev loss of a segment by its last digit."""
    line["dev_loss"] = math.nextafter(line["dev_loss"], math.inf)


def nudge_train(line: dict[str, Any]) -> None:
    """Change the last train loss of a segment likewise."""
    line["train"][-1][1] = math.nextafter(line["train"][-1][1], math.inf)


def test_trial_comes_out_bit_for_bit(trained: Path, replayed: Replayed) -> None:
    """A record that can be made again from its spec is one that can be believed."""
    assert replayed(trained, COMPLETE) == {
        "model": f"trial {COMPLETE}",
        "trial": COMPLETE,
        "dev_loss": Journal(trained / "runs/few").read(COMPLETE).dev_loss,
        "is_reproduced": True,
        "is_identical": True,
        "compared": "bit for bit",
        "changed": {},
        "n_segments": N_SEGMENTS,
        "n_equal_segments": N_SEGMENTS,
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
    done = warm_command("replay", number, folder=trained)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    equal = "segment is" if n_segments == 1 else "segments are"
    assert f"bit for bit: {n_segments} of {n_segments} {equal} equal" in said
    assert said.endswith(record.divergence)


def test_divergence_at_another_step_is_found_out(copy: Path, replayed: Replayed) -> None:
    """Diverging is not enough: the reason is a part of the record."""
    path = Journal(copy / "runs/few").trial_folder(LATER) / "outcome.json"
    reason = json.loads(path.read_text())["reason"]
    step = int(reason.split(" at step ")[1].split()[0])
    path.write_text(path.read_text().replace(f"at step {step} of", f"at step {step - 1} of"))
    values = replayed(copy, LATER)
    assert not values["is_reproduced"]
    assert values["end"] == reason != values["recorded_end"]


def test_divergence_before_the_record_ends_is_no_match(copy: Path, replayed: Replayed) -> None:
    """Where nothing is left to compare, nothing agrees, whatever the versions."""
    edit_torch(copy, LATER)
    edit(copy, LATER, lambda start: start["spec"].update(learning_rate=1e30))
    values = replayed(copy, LATER)
    assert not values["is_reproduced"]
    assert (values["n_segments"], values["n_equal_segments"]) == (1, 0)


def test_any_altered_field_of_a_curve_is_found_out(copy: Path, warm_command: Warm) -> None:
    """The last digit of one number in a segment is enough: here another field of each segment."""
    edit_lines(
        copy,
        nudge,
        nudge_train,
        lambda line: line.update(weights_sha256="0" * 64),
        lambda line: line.update(step=999),
        lambda line: line.update(segment=7),
    )
    done = warm_command("replay", COMPLETE, folder=copy)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert f"trial {COMPLETE} is not reproduced: 0 of {N_SEGMENTS} segments are equal" in said
    assert "step 100" in said, "the first difference"


@pytest.mark.parametrize("damage", ["a segment is missing", "a loss is no number"])
def test_damaged_record_is_no_match(copy: Path, damage: str) -> None:
    """What is left of a record may be reproduced; the record is damaged all the same."""
    path = Journal(copy / "runs/few").trial_folder(COMPLETE) / "curve.jsonl"
    if damage == "a segment is missing":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    else:
        edit_lines(copy, lambda line: line.update(dev_loss=math.nan))
    done = run_in_process("replay", COMPLETE, folder=copy, code=1)
    assert "damaged" in done.error


def test_other_versions_ask_for_a_tolerance(copy: Path, replayed: Replayed) -> None:
    """With another torch equal bits cannot be asked for; beyond the tolerance is another score."""
    edit_torch(copy)
    edit_lines(copy, nudge)
    now = provenance.versions()["torch"]
    values = replayed(copy, COMPLETE)
    assert values["is_reproduced"]
    assert values["compared"] == "within a tolerance"
    assert values["changed"] == {"torch": ["2.0.1", now]}
    assert not values["is_identical"]
    assert 0 < values["max_gap_nats"] < 1e-12
    edit_lines(copy, lambda line: line.update(dev_loss=line["dev_loss"] + 2 * TOLERANCE_NATS))
    values = replayed(copy, COMPLETE)
    assert not values["is_reproduced"]
    assert values["parting_step"] == 500


def test_confirmed_model_comes_out_bit_for_bit(confirmed: Path, replayed: Replayed) -> None:
    """Without a number the chosen model is trained again: the one that is tested and shipped."""
    chosen = json.loads(run_in_process("sample", "--json", folder=confirmed).output)
    values = replayed(confirmed)
    assert values["is_identical"]
    assert values["model"] == chosen["model"]
    assert ", seed " in chosen["model"]


@pytest.mark.fault
def test_dead_worker_is_one_clear_line(trained: Path, warm_command: Warm) -> None:
    """A worker that the kernel kills is no traceback."""
    done = warm_command("replay", COMPLETE, folder=trained, patch=KILL_WORKERS, code=1)
    assert "worker process died in segment 1" in done.stderr
    assert done.stderr.count("\n") == 1


def die_first(*args: Any) -> CallResult:
    """Train a segment, but be killed the first time."""
    marker = Path("killed")
    if not marker.exists():
        marker.touch()
        signal.raise_signal(signal.SIGKILL)
    return run_segments(*args)


@pytest.mark.fault
def test_worker_that_dies_once_is_replaced(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a search: on a cluster, workers come and go."""
    monkeypatch.setattr(replay, "run_segments", die_first)
    done = run_in_process("replay", COMPLETE, "--json", folder=copy)
    assert (done.exit_code, (copy / "killed").exists()) == (0, True)
    assert json.loads(done.output)["is_identical"]


def test_nothing_to_compare_is_bad_input(copy: Path) -> None:
    """An unknown trial, and one that has only begun, are told with where the numbers are."""
    folder = Journal(copy / "runs/few").trial_folder(COMPLETE)
    for name in ("curve.jsonl", "outcome.json", "weights.safetensors"):
        (folder / name).unlink()
    for number in (COMPLETE, 8):
        done = run_in_process("replay", number, folder=copy)
        assert (done.exit_code, done.output) == (2, "")
        assert f"trial {number}" in done.error
        assert "mmsearch trials" in done.error


def test_other_arithmetic_is_told(trained: Path, replayed: Replayed) -> None:
    """Bits that differ are not called equal, although they are well within the tolerance."""
    values = replayed(trained, COMPLETE, **OTHER_ARITHMETIC)
    if values["is_identical"]:
        pytest.skip(f"this processor computes the same bits under {OTHER_ARITHMETIC}")
    assert not values["is_reproduced"]
    assert values["n_equal_segments"] == 0
    assert 0 < values["max_gap_nats"] < 1e-5 < TOLERANCE_NATS


def test_search_is_replayed_up_to_the_first_trial_that_differs(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """With other workers and over two values of `--trials`; then with a loss changed by hand."""
    config = tmp_path / "config.toml"
    config.write_text(
        f"[training]\n{plain_settings.TRAINING}\nsteps = 40\nsegments = 4\n[search]\nlanes = 3\n"
        f"[space]\n{plain_settings.SPACE}[[enqueue]]\nlearning_rate = 0.3\n"
    )
    for n_trials in (4, 9):
        words = ("run", "--corpus", small_corpus, "--config", config, "-n", n_trials)
        warm_command(*words, "--workers", 2, folder=tmp_path, code=0)
    before = contents(tmp_path)

    done = warm_command("replay", "--search", "--workers", 1, "--json", folder=tmp_path)

    found = json.loads(done.stdout)
    assert (done.returncode, found["is_reproduced"]) == (0, True), found
    assert found["n_trials"] >= 9
    assert contents(tmp_path) == before
    path = Journal(tmp_path / "runs/few").trial_folder(7) / "curve.jsonl"
    first, *others = [json.loads(line) for line in path.read_text().splitlines()]
    nudge(first)
    path.write_text("".join(json.dumps(line) + "\n" for line in [first, *others]))
    done = warm_command("replay", "--search", "--json", folder=tmp_path, code=1)
    assert json.loads(done.stdout)["parting_trial"] == 7
