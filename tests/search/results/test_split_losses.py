"""`mmsearch losses`: the whole splits, positions and parts of dev add up to the recorded loss."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model import checkpoint
from mmsearch.model.scoring import word_losses
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked
from tests.support.forked_cli import Warm


def mean_of(parts: Sequence[dict[str, Any]]) -> float:
    """Return the mean of means, each weighted by its characters."""
    total = sum(part["loss"] * part["n_characters"] for part in parts)
    return float(total / sum(part["n_characters"] for part in parts))


def test_losses_are_those_of_the_chosen_model(
    searched: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Dev scores as in the search, and train over all of its words, not over the first ones."""
    best, *_, worst = ranked(Journal(searched / "runs/few").records())
    split = split_corpus(read_corpus(small_corpus))

    for record, words in ((best, ()), (worst, ("--trial", worst.number))):
        done = warm_command("losses", *words, "--json", folder=searched, code=0)
        values = json.loads(done.stdout)
        assert values["trial"] == record.number
        assert values["dev"]["loss"] == pytest.approx(record.dev_loss, abs=1e-6)
        weights = Journal(searched / "runs/few").read_weights(record)
        vocabulary = read_corpus(small_corpus).vocabulary
        train = word_losses(checkpoint.from_bytes(weights), split.train, vocabulary)
        assert values["train"]["loss"] == pytest.approx(train.mean, rel=1e-12)
        for name, part in (("train", split.train), ("dev", split.dev)):
            assert values[name]["n_words"] == len(part)
            assert values[name]["n_characters"] == sum(len(word) + 1 for word in part)
        assert mean_of(values["dev_by_position"]) == pytest.approx(values["dev"]["loss"])
        assert values["dev_by_position"][-1]["n_characters"] == len(split.dev)
        assert values["dev_in_train"] is values["dev_not_in_train"] is None


def test_repeated_words_are_scored_apart(
    tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Where repeats are kept, the two parts of dev are those that the search recorded."""
    words = small_corpus.read_text().split()
    (tmp_path / "twice.txt").write_text("\n".join([*words, *words[:200]]) + "\n")
    run = ("run", "--corpus", "twice.txt", "--keep-duplicates", "-n", 1, "--workers", 1, "-q")
    warm_command(*run, "--steps", 40, folder=tmp_path, code=0)
    scored = Journal(tmp_path / "runs/twice").read(0).scored
    assert scored is not None

    values = json.loads(warm_command("losses", "--json", folder=tmp_path).stdout)
    shown = warm_command("losses", folder=tmp_path)

    parts = [values["dev_in_train"], values["dev_not_in_train"]]
    assert parts[0]["loss"] == pytest.approx(scored.dev_parts["in_train"], abs=1e-6)
    assert parts[1]["loss"] == pytest.approx(scored.dev_parts["not_in_train"], abs=1e-6)
    assert sum(part["n_words"] for part in parts) == values["dev"]["n_words"]
    assert mean_of(parts) == pytest.approx(values["dev"]["loss"])
    for part in parts:
        assert f"{part['loss']:.4f}" in shown.stdout
