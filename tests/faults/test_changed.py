"""A study goes on with what it was started with, or not at all: words, settings and place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient

from mmsearch.data.corpus import BUILTIN_CORPUS
from mmsearch.search.study.settings import TABLES, Settings
from mmsearch.tracking.journal.journal import Journal
from tests.support.cli_contract import assert_told, contents
from tests.support.forked_cli import Command

if TYPE_CHECKING:
    from tests.support.forked_cli import Warm

OTHER = {
    "split_seed": "split_seed is 42, not 7",
    "steps": "steps is 400, not 800",
    "segments": "segments is 4, not 5",
    "batch_size": "batch_size is 32, not 16",
    "init": "init is scaled, not article",
    "schedule": "schedule is constant, not cosine",
    "averaging": "averaging is polynomial, not none",
    "sampler": "sampler is tpe, not random",
    "pruner": "pruner is none, not median",
    "seed": "seed is 0, not 3",
    "start": "start is False, not True",
    "optimizer": "optimizer is sgd, not adam",
    "targets": "targets is examples, not contexts",
    "evaluations": "evaluations is even, not growing",
    "patience": "patience is 0, not 5",
    "extend_to": "extend_to is 1.0, not 2.0",
    "cut_at": "cut_at is 0.5, not 0.75",
    "cut_factor": "cut_factor is 0.1, not 0.2",
    "keep_duplicates": "keep_duplicates is False, not True",
}
"""What is said of each setting that is another; the value after `not` is the one given."""
SPACE = {
    "hidden_width": "hidden_width is 32, not 64",
    "learning_rate": "learning_rate is 0.01 to 1.0, log, not 0.1 to 0.5, log",
    "weight_decay": "weight_decay is 0.0, not 0.001",
}
IN_SPACE = """
[space]
hidden_width = 64
learning_rate = { low = 0.1, high = 0.5 }
weight_decay = 1e-3
"""
RUN = ("run", "--study", "few", "-n", 4, "--workers", 1, "--quiet")


def toml(name: str) -> str:
    """Write one setting of `OTHER` as a config would."""
    value = OTHER[name].rpartition(" ")[2]
    shown = value.lower() if value == "True" else value
    is_word = value.isalpha() and value != "True"
    return f'{name} = "{value}"' if is_word else f"{name} = {shown}"


def config(folder: Path, *names: str, more: str = "") -> Path:
    """Write a config of other settings than the study's."""
    path = folder / f"{'-'.join(names) or 'space'}.toml"
    tables = [
        "\n".join([f"[{table}]", *(toml(name) for name in names if name in keys)])
        for table, keys in TABLES.items()
    ]
    path.write_text("\n".join([*tables, more]))
    return path


def others(folder: Path) -> Path:
    """Write another corpus."""
    path = folder / "others.txt"
    path.write_text("\n".join(BUILTIN_CORPUS.read_text().split()[1000:1400]))
    return path


def test_every_setting_is_among_those_that_are_changed() -> None:
    """A setting that a later version adds is held to, or this fails."""
    assert set(OTHER) == set(Settings().to_json()) - {"space"}


def test_each_other_setting_is_refused_by_its_name(copied: Path, warm_command: Warm) -> None:
    """One changed line of a config is one difference in the message, with both values."""
    commands = [
        Command((*RUN, "--config", config(copied, name)), copied) for name in (*OTHER, "space")[:-1]
    ]
    commands.append(Command((*RUN, "--config", config(copied, more=IN_SPACE)), copied))
    before = contents(copied)
    done = warm_command.together(commands)
    for name, one in zip((*OTHER, "space"), done, strict=True):
        assert one.returncode == 3, (name, one.stderr)
        assert_told(one)
        told = "; ".join(SPACE.values()) if name == "space" else OTHER[name]
        assert f"study 'few' was started otherwise: {told}. To go on" in one.stderr
        assert "or name a new one with --study" in one.stderr
    assert contents(copied) == before


def test_words_and_settings_are_listed_together(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Who mends one difference must not meet the next: all are in one message."""
    path = config(copied, *OTHER, more=IN_SPACE)
    corpus = others(copied)
    before = contents(copied)
    done = warm_command(*RUN, "--config", path, "--corpus", corpus, folder=copied)
    assert done.returncode == 3
    assert_told(done)
    words = f"its words are those of {small_corpus}, and {corpus} has others"
    for told in (words, *OTHER.values(), *SPACE.values()):
        assert told in done.stderr
    assert contents(copied) == before


def test_kept_repeats_are_no_other_words(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Repeats kept or dropped give one file two fingerprints: it is the setting that is named."""
    lines = small_corpus.read_text() * 2
    doubled = copied / "doubled.txt"
    doubled.write_text(lines)
    given = ("--corpus", doubled, "--keep-duplicates")
    done = warm_command(*RUN, *given, folder=copied)
    assert done.returncode == 3
    assert "started otherwise: keep_duplicates is False, not True. " in done.stderr


def test_words_changed_in_place_are_refused_by_every_command_that_trains(
    tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """The file of the study edited after its start: nothing trains on it, nothing is written."""
    corpus = tmp_path / "few.txt"
    shutil.copy(small_corpus, corpus)
    start = ("run", "--corpus", corpus, "-n", 1, "--steps", 40, "--workers", 1, "--quiet")
    assert warm_command(*start, folder=tmp_path).returncode == 0
    corpus.write_text(small_corpus.read_text().replace("\n", "\nzyzzyva\n", 1))
    before = contents(tmp_path)
    commands = [
        ("run", "--study", "few", "-n", 2, "--seed", 5),
        ("confirm", "--top", 1, "--seeds", 1),
        ("replay", 0),
        ("final-test",),
    ]
    done = warm_command.together([Command(words, tmp_path) for words in commands])
    for words, one in zip(commands, done, strict=True):
        assert one.returncode == 3, (words, one.stderr)
        assert_told(one)
        assert f"the words of {corpus} have changed since" in one.stderr
    assert "; seed is 0, not 5" in done[0].stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["corpus_fingerprint", "split_fingerprint"])
def test_study_whose_fingerprints_are_others_is_refused(
    copied: Path, warm_command: Warm, name: str
) -> None:
    """Words or a shuffle that are not the recorded ones would mix two dev splits."""
    path = copied / "runs/few/study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: "0" * 64}))
    before = contents(copied)
    done = warm_command(*RUN, folder=copied)
    assert done.returncode == 3
    assert_told(done)
    assert ("changed since" if name == "corpus_fingerprint" else "split otherwise") in done.stderr
    assert contents(copied) == before


def test_moved_workspace_goes_on(copied: Path, warm_command: Warm, searched: Path) -> None:
    """Everything is found from where the workspace is now, and nothing appears where it was."""
    (copied / "runs").rename(copied / "moved")
    before = contents(searched)
    place = ("--workspace", "moved")
    done = warm_command(*RUN[:3], "-n", 5, "--workers", 1, *place, folder=copied)
    assert done.returncode == 0, done.stderr
    assert_told(done)
    records = Journal(copied / "moved/few").records()
    assert [record.state for record in records] == ["COMPLETE"] * 5
    for words in (("trials",), ("sample",), ("replay", 4), ("export", "taken"), ("sync",)):
        one = warm_command(*words, *place, folder=copied)
        assert one.returncode == 0, (words, one.stderr)
    assert {path.name for path in copied.iterdir() if path.is_dir()} <= {"moved", "taken", ".local"}
    assert contents(searched) == before
    client = MlflowClient(f"sqlite:///{copied}/moved/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) == 6
    for run in runs:
        folder = unquote(urlsplit(run.info.artifact_uri).path)
        assert folder.startswith(f"{copied}/moved/artifacts/")
        assert (Path(folder) / "figures").is_dir(), run.data.tags
