"""`mmsearch export` and `mmsearch sample`: a model taken along, and heard."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model.sampling import ARTICLE_SEED
from mmsearch.model.spec import TrialSpec
from mmsearch.search.results.selection import choose
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord, ranked
from tests.support.in_process import run_in_process

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


def exported(folder: Path, workspace: Path, *words: object) -> str:
    """Export a model into the folder `model`; returns what is said."""
    place = ("--workspace", workspace / "runs")
    done = run_in_process("export", "model", *words, *place, folder=folder)
    assert (done.exit_code, done.error) == (0, "")
    return done.output


def sampled(folder: Path, *words: object) -> dict[str, Any]:
    """Sample words; returns the JSON."""
    done = run_in_process("sample", *words, "--json", folder=folder)
    assert (done.exit_code, done.error) == (0, "")
    values: dict[str, Any] = json.loads(done.output)
    return values


def best_first(folder: Path) -> list[TrialRecord]:
    """Return the complete trials of the study, best first."""
    return ranked(Journal(folder / "runs/few").records())


def assert_is(model: Path, journal: Journal, record: TrialRecord) -> None:
    """Check that an exported model is a trained one, to the byte."""
    weights = journal.weights_path(record.number).read_bytes()
    assert (model / "weights.safetensors").read_bytes() == weights
    assert TrialSpec.from_json(json.loads((model / "spec.json").read_text())) == record.spec


def test_export_is_the_chosen_model_and_numpy_alone_can_use_it(
    searched: Path, tmp_path: Path, small_corpus: Path
) -> None:
    """Three files are the whole model, with the recorded loss, and it is said which model it is."""
    best = best_first(searched)[0]
    said = exported(tmp_path, searched)
    assert f"trial {best.number}" in said
    assert "lowest dev loss of 4 complete" in said
    model = tmp_path / "model"
    assert len(list(model.iterdir())) == 3
    assert_is(model, Journal(searched / "runs/few"), best)
    vocabulary = json.loads((model / "vocabulary.json").read_text())
    assert vocabulary == [".", *sorted(set(small_corpus.read_text()) - {"\n"})]
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE],
        cwd=model,
        input=json.dumps(split_corpus(read_corpus(small_corpus)).dev),
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(best.dev_loss, abs=1e-5)


def test_named_trial_is_exported(searched: Path, tmp_path: Path) -> None:
    """`--trial` takes another one along, into a folder that is there and empty."""
    other = best_first(searched)[1]
    (tmp_path / "model").mkdir()
    said = exported(tmp_path, searched, "--trial", other.number)
    assert f"trial {other.number}" in said
    assert "number 2 of 4" in said
    assert_is(tmp_path / "model", Journal(searched / "runs/few"), other)


def test_confirmed_model_is_exported(confirmed: Path, tmp_path: Path) -> None:
    """A confirmation's best seed has weights of its own, elsewhere than the trial it repeats."""
    choice = choose(Journal(confirmed / "runs/few"))
    assert choice.journal.kind == "confirm"
    assert choice.record.name in exported(tmp_path, confirmed)
    assert_is(tmp_path / "model", choice.journal, choice.record)


def test_export_overwrites_nothing(searched: Path, tmp_path: Path) -> None:
    """A folder in use and a file in its place are left as they are; so is what is not there."""
    exported(tmp_path, searched)
    (tmp_path / "taken").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    place = ("--workspace", searched / "runs")
    for words in (("model",), ("taken",), ("taken/in",), ("new", "--trial", 77)):
        done = run_in_process("export", *words, *place, folder=tmp_path)
        assert (done.exit_code, done.output) == (2, "")
        assert str(words[-1]) in done.error
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_sample_draws_with_the_articles_seed(searched: Path) -> None:
    """Unless another is named: so it gives the words that the trial itself has drawn at its end."""
    assert ARTICLE_SEED == 2147483647 + 10
    drawn = sampled(searched)
    assert drawn == sampled(searched, "--seed", ARTICLE_SEED)
    assert drawn != sampled(searched, "--seed", 1)
    words = [word["word"] for word in drawn["words"]]
    assert words == Journal(searched / "runs/few").read_samples(best_first(searched)[0].number)


def test_sample_marks_words_of_train_and_heeds_prefix_and_temperature(
    searched: Path, small_corpus: Path
) -> None:
    """Words learnt by heart are told from new ones; near zero no draw is left to chance."""
    drawn = sampled(searched, "-n", 30)["words"]
    assert len(drawn) == 30
    train = set(split_corpus(read_corpus(small_corpus)).train)
    assert [word["in_train"] for word in drawn] == [word["word"] in train for word in drawn]
    assert len({word["word"] for word in drawn}) > 1
    begun = sampled(searched, "-n", 30, "--prefix", "ma")["words"]
    assert all(word["word"].startswith("ma") for word in begun)
    cold = [sampled(searched, "--temperature", t, "--seed", s) for t, s in ((1e-6, 1), (1e-9, 2))]
    assert len({word["word"] for each in cold for word in each["words"]}) == 1


@pytest.mark.parametrize(
    ("prefix", "begin"),
    [("e\u0301", "é"), ("\u095b", "\u091c\u093c"), ("MA", "ma"), ("E\u0301", "é")],
)
def test_prefix_is_put_into_the_form_of_the_words(copied: Path, prefix: str, begin: str) -> None:
    """It is typed in another Unicode form or case than the words were read in."""
    path = copied / "runs/few/study.json"
    study = json.loads(path.read_text())
    letters = {"x": "é", "y": "\u091c", "z": "\u093c"}
    study["vocabulary"] = study["vocabulary"].translate(str.maketrans(letters))
    study["settings"]["lower"] = prefix.lower() != prefix
    path.write_text(json.dumps(study))
    drawn = sampled(copied, "--prefix", prefix)["words"]
    assert drawn
    assert all(word["word"].startswith(begin) for word in drawn)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        *(("--temperature", value, "temperature") for value in ("0", "-1", "nan", "inf")),
        ("--prefix", "éa", "'é' (U+00E9)"),
        ("--prefix", "a.", "'a.'"),
        ("--trial", "77", "mmsearch trials"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(
    searched: Path, option: str, value: str, named: str
) -> None:
    """A wrong number or character is named, and nothing is drawn."""
    done = run_in_process("sample", option, value, folder=searched)
    assert (done.exit_code, done.output) == (2, "")
    assert named in done.error


def test_word_without_end_is_cut_and_said_to_be(copied: Path) -> None:
    """A model that never chooses the boundary stops at a limit, which is not taken for an end."""
    trial = Journal(copied / "runs/few").trial_folder(best_first(copied)[0].number)
    tensors = safetensors.numpy.load_file(trial / "weights.safetensors")
    tensors["b2"] = tensors["b2"].copy()
    tensors["b2"][0] = -1e9
    content = safetensors.numpy.save(tensors)
    (trial / "weights.safetensors").write_bytes(content)
    *before, last = (trial / "curve.jsonl").read_text().splitlines()
    line = {**json.loads(last), "weights_sha256": hashlib.sha256(content).hexdigest()}
    (trial / "curve.jsonl").write_text("\n".join([*before, json.dumps(line)]) + "\n")

    words = sampled(copied, "-n", 3, "--prefix", "ma")["words"]
    _, *lines = run_in_process("sample", "-n", 3, folder=copied).output.splitlines()

    assert [(len(word["word"]), word["is_cut"]) for word in words] == [(100, True)] * 3
    assert all("100" in line.partition(" ")[2] for line in lines)
