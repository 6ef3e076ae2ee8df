"""`mmsearch export` and `mmsearch sample`: a model taken along, and heard."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import safetensors.numpy

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model.sampling import ARTICLE_SEED
from mmsearch.model.spec import TrialSpec
from mmsearch.search.results.selection import confirmations
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Done, Warm

FILES = {"weights.safetensors", "spec.json", "vocabulary.json"}
EVALUATE = """
import json, sys
import numpy as np
from safetensors.numpy import load_file

w = load_file("weights.safetensors")
block_size = json.load(open("spec.json"))["block_size"]
ids = {character: i for i, character in enumerate(json.load(open("vocabulary.json")))}
contexts, targets = [], []
for word in json.load(sys.stdin):
    context = [0] * block_size
    for i in [*(ids[character] for character in word), 0]:
        contexts.append(context)
        targets.append(i)
        context = [*context[1:], i]
emb = w["C"][np.array(contexts)].reshape(len(contexts), -1)
logits = np.tanh(emb @ w["W1"] + w["b1"]) @ w["W2"] + w["b2"]
p = np.exp(logits - logits.max(1, keepdims=True))
p = p / p.sum(1, keepdims=True)
assert not {"mmsearch", "torch", "mlflow"} & set(sys.modules)
print(-np.log(p[np.arange(len(targets)), targets].astype(float)).mean())
"""


@pytest.fixture(scope="module")
def best(searched: Path) -> int:
    """Give the number of the study's best trial."""
    return ranked(Journal(searched / "runs/few").records())[0].number


@pytest.fixture(scope="module")
def other(searched: Path) -> int:
    """Give the number of another complete trial."""
    return ranked(Journal(searched / "runs/few").records())[1].number


def assert_refused(done: Done, complaint: str) -> None:
    """Hold that a command ended with 2 and one line."""
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def never_end(folder: Path, number: int) -> None:
    """Change a trial's weights so that no word of it ends, and its record with them."""
    trial = Journal(folder / "runs/few").trial_folder(number)
    tensors = safetensors.numpy.load_file(trial / "weights.safetensors")
    b2 = tensors["b2"].copy()
    b2[0] = -1e9
    content = safetensors.numpy.save({**tensors, "b2": b2})
    (trial / "weights.safetensors").write_bytes(content)
    *before, last = (trial / "curve.jsonl").read_text().splitlines()
    line = {**json.loads(last), "weights_sha256": hashlib.sha256(content).hexdigest()}
    (trial / "curve.jsonl").write_text("\n".join([*before, json.dumps(line)]) + "\n")


def test_export_is_the_chosen_model(copied: Path, warm_command: Warm, best: int) -> None:
    """What is taken along is what was trained, to the byte, and it is said which it is."""
    done = warm_command("export", "new/model", folder=copied)
    assert done.returncode == 0, done.stderr
    assert f"trial {best} to 'new/model'" in done.stdout
    assert "lowest dev loss of 4 complete" in done.stdout
    model = copied / "new/model"
    assert {path.name for path in model.iterdir()} == FILES
    journal = Journal(copied / "runs/few")
    weights = journal.weights_path(best).read_bytes()
    assert (model / "weights.safetensors").read_bytes() == weights
    spec = json.loads((model / "spec.json").read_text())
    assert TrialSpec.from_json(spec) == journal.read(best).spec


def test_vocabulary_lists_characters_by_id(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Without it nobody could tell what a row of C stands for."""
    assert warm_command("export", "model", folder=copied).returncode == 0
    vocabulary = json.loads((copied / "model/vocabulary.json").read_text())
    assert vocabulary == [".", *sorted(set(small_corpus.read_text()) - {"\n"})]


def test_numpy_alone_gives_the_recorded_loss(
    copied: Path, warm_command: Warm, small_corpus: Path, best: int
) -> None:
    """The three files are the whole model: neither mmsearch nor torch is needed to use it."""
    assert warm_command("export", "model", folder=copied).returncode == 0
    dev = split_corpus(read_corpus(small_corpus)).dev
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE],
        cwd=copied / "model",
        input=json.dumps(dev),
        capture_output=True,
        text=True,
        check=True,
    )
    dev_loss = Journal(copied / "runs/few").read(best).dev_loss
    assert float(done.stdout) == pytest.approx(dev_loss, abs=1e-5)


def test_named_trial_is_exported(copied: Path, warm_command: Warm, other: int) -> None:
    """`--trial` takes another one along, into a folder that is there and empty."""
    (copied / "model").mkdir()
    done = warm_command("export", "model", "--trial", other, folder=copied)
    assert done.returncode == 0, done.stderr
    assert f"trial {other} to 'model'" in done.stdout
    assert "named with --trial; number 2 of 4" in done.stdout
    weights = Journal(copied / "runs/few").weights_path(other).read_bytes()
    assert (copied / "model/weights.safetensors").read_bytes() == weights


def test_confirmed_model_is_exported(copied: Path, warm_command: Warm) -> None:
    """A confirmation's best seed has weights of its own, elsewhere than the trial it repeats."""
    assert warm_command("confirm", "--top", 1, "--seeds", 1, folder=copied).returncode == 0
    done = warm_command("export", "model", folder=copied)
    assert done.returncode == 0, done.stderr
    assert ", seed 1 to 'model'" in done.stdout
    assert "best seed of the best mean" in done.stdout
    repeats = confirmations(Journal(copied / "runs/few"))
    (number,) = repeats.numbers()
    exported = (copied / "model/weights.safetensors").read_bytes()
    assert exported == repeats.weights_path(number).read_bytes()
    seed = json.loads((copied / "model/spec.json").read_text())["seed"]
    assert seed == repeats.read(number).spec.seed


def test_export_overwrites_nothing(copied: Path, warm_command: Warm) -> None:
    """A folder in use and a file in its place are left as they are."""
    assert warm_command("export", "model", folder=copied).returncode == 0
    kept = {path: path.read_bytes() for path in (copied / "model").iterdir()}
    assert_refused(warm_command("export", "model", folder=copied), "'model' is not empty")
    assert {path: path.read_bytes() for path in (copied / "model").iterdir()} == kept
    (copied / "taken").write_text("mine")
    assert_refused(warm_command("export", "taken", folder=copied), "'taken' is a file")
    assert_refused(warm_command("export", "taken/in", folder=copied), "'taken/in' is a file")
    assert (copied / "taken").read_text() == "mine"


def test_unknown_trial_is_not_exported(copied: Path, warm_command: Warm) -> None:
    """A slip of the fingers leaves no folder behind."""
    done = warm_command("export", "model", "--trial", 77, folder=copied)
    assert_refused(done, "study 'few' has no trial 77; see: mmsearch trials")
    assert not (copied / "model").exists()


def test_damaged_weights_are_not_exported(copied: Path, warm_command: Warm, best: int) -> None:
    """Weights that are not the recorded ones go nowhere."""
    path = Journal(copied / "runs/few").weights_path(best)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = warm_command("export", "model", folder=copied)
    assert done.returncode == 1
    assert "its SHA-256 is not the recorded one" in done.stderr
    assert not (copied / "model").exists()


def test_sample_draws_with_the_articles_seed(searched: Path, warm_command: Warm, best: int) -> None:
    """Unless another is named: so it gives the words that the trial itself has drawn at its end."""
    assert ARTICLE_SEED == 2147483647 + 10
    assert f"[default: {ARTICLE_SEED}]" in warm_command("sample", "--help", folder=searched).stdout
    drawn = warm_command("sample", folder=searched)
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout == warm_command("sample", "--seed", ARTICLE_SEED, folder=searched).stdout
    assert drawn.stdout != warm_command("sample", "--seed", 1, folder=searched).stdout
    samples = Journal(searched / "runs/few").trial_folder(best) / "samples.txt"
    words = [line.removesuffix(" *") for line in drawn.stdout.splitlines()[1:]]
    assert words == samples.read_text().splitlines()


def test_low_temperature_gives_the_likeliest_word(searched: Path, warm_command: Warm) -> None:
    """Near zero no draw is left to chance, whatever the seed."""
    given = ("sample", "-n", 5, "--json")
    cold = [
        json.loads(warm_command(*given, "--temperature", t, "--seed", s, folder=searched).stdout)
        for t, s in ((1e-6, 1), (1e-9, 2))
    ]
    assert len({word["word"] for drawn in cold for word in drawn["words"]}) == 1
    warm = json.loads(warm_command(*given, folder=searched).stdout)
    assert len({word["word"] for word in warm["words"]}) > 1


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--temperature", "0", "temperature must be above 0, got 0.0"),
        ("--temperature", "-1", "temperature must be above 0, got -1.0"),
        ("--temperature", "nan", "temperature must be above 0, got nan"),
        ("--temperature", "inf", "temperature must be above 0, got inf"),
        ("--prefix", "éa", "character 'é' (U+00E9) of 'éa' is not in the vocabulary"),
        ("--prefix", "a.", "boundary '.', got 'a.'"),
        ("--trial", "77", "study 'few' has no trial 77; see: mmsearch trials"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(
    searched: Path, warm_command: Warm, option: str, value: str, complaint: str
) -> None:
    """A wrong number or character is named, and nothing is drawn."""
    assert_refused(warm_command("sample", option, value, folder=searched), complaint)


def test_word_without_end_is_cut_and_said_to_be(
    copied: Path, warm_command: Warm, best: int
) -> None:
    """A model that never chooses the boundary stops at a limit, which is not taken for an end."""
    never_end(copied, best)
    done = warm_command("sample", "-n", 3, "--prefix", "ma", folder=copied)
    assert done.returncode == 0, done.stderr
    _, *lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        word, _, mark = line.partition(" ")
        assert word.startswith("ma")
        assert len(word) == 100
        assert mark == "(cut at 100 characters)"
    drawn = json.loads(warm_command("sample", "-n", 3, "--json", folder=copied).stdout)
    assert [word["is_cut"] for word in drawn["words"]] == [True] * 3
