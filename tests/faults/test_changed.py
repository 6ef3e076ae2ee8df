"""A study goes on with the words and settings that it was started with, or not at all."""

import json
import re
import shutil
from pathlib import Path

from mmsearch.data.corpus import BUILTIN_CORPUS
from mmsearch.search.study.config_file import TABLES
from mmsearch.search.study.settings import Settings
from tests.support.cli_contract import assert_told, contents
from tests.support.forked_cli import Command, Warm

OTHER: dict[str, object] = {
    "split_seed": 7,
    "steps": 800,
    "segments": 5,
    "batch_size": 16,
    "init": "article",
    "schedule": "cosine",
    "averaging": "none",
    "sampler": "random",
    "pruner": "median",
    "seed": 3,
    "lanes": 3,
    "start": True,
    "training_seed": 6,
    "optimizer": "adam",
    "targets": "contexts",
    "evaluations": "growing",
    "patience": 5,
    "extend_to": 2.0,
    "cut_at": 0.75,
    "cut_factor": 0.2,
    "keep_duplicates": True,
    "lower": True,
    "boundary": "_",
}
"""A value of each setting that the study was not started with."""
SPACE = {"hidden_width": "64", "learning_rate": "0.1 to 0.5", "weight_decay": "0.001"}
"""Likewise, as a message shows them."""
IN_SPACE = """
[space]
hidden_width = 64
learning_rate = { low = 0.1, high = 0.5 }
weight_decay = 1e-3
"""
RUN = ("run", "--study", "few", "-n", 4, "--workers", 1, "--quiet")


def config(folder: Path, *names: str, more: str = "") -> Path:
    """Write a config with other values of some settings than the study's."""
    path = folder / f"{'-'.join(names) or 'space'}.toml"
    tables = [
        "\n".join(
            [
                f"[{table}]",
                *(f"{k} = {json.dumps(OTHER[n])}" for k, n in keys.items() if n in names),
            ]
        )
        for table, keys in TABLES.items()
    ]
    path.write_text("\n".join([*tables, more]))
    return path


def assert_names(stderr: str, folder: Path, *names: str) -> None:
    """Check that a message names settings, each with the study's value and the given one."""
    stored = json.loads((folder / "runs/few/study.json").read_text())["settings"]
    for name in names:
        given = str(OTHER[name] if name in OTHER else SPACE[name])
        before = str(stored[name]) if name in OTHER else ""
        assert re.search(rf"\b{name}\b[^;]*{re.escape(before)}[^;]*{given}", stderr), (name, stderr)


def others(folder: Path) -> Path:
    """Write another corpus."""
    path = folder / "others.txt"
    path.write_text("\n".join(BUILTIN_CORPUS.read_text().split()[1000:1400]))
    return path


def test_every_setting_is_among_those_that_are_changed() -> None:
    """A setting that a later version adds must be added here; a list has no column to name."""
    assert set(OTHER) == set(Settings().to_json()) - {"space", "column"}


def test_each_other_setting_is_refused_by_its_name(copied: Path, warm_command: Warm) -> None:
    """One changed line of a config is one difference in the message, with both values."""
    configs: dict[tuple[str, ...], Path] = {(name,): config(copied, name) for name in OTHER}
    configs[tuple(SPACE)] = config(copied, more=IN_SPACE)
    before = contents(copied)
    commands = [Command((*RUN, "--config", path), copied) for path in configs.values()]
    for names, done in zip(configs, warm_command.together(commands), strict=True):
        assert done.returncode == 3, (names, done.stderr)
        assert_told(done)
        assert_names(done.stderr, copied, *names)
        assert "--study" in done.stderr
    assert contents(copied) == before


def test_words_and_settings_are_listed_together(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """One message lists all differences, so that mending one does not uncover the next."""
    path = config(copied, *OTHER, more=IN_SPACE)
    corpus = others(copied)
    before = contents(copied)
    done = warm_command(*RUN, "--config", path, "--corpus", corpus, folder=copied, code=3)
    assert_told(done)
    assert_names(done.stderr, copied, *OTHER, *SPACE)
    assert str(small_corpus) in done.stderr
    assert str(corpus) in done.stderr
    assert contents(copied) == before


def test_kept_repeats_are_not_other_words(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """With repeats kept, the same file has another fingerprint: the message names the setting."""
    doubled = copied / "doubled.txt"
    doubled.write_text(small_corpus.read_text() * 2)
    done = warm_command(*RUN, "--corpus", doubled, "--keep-duplicates", folder=copied, code=3)
    assert_names(done.stderr, copied, "keep_duplicates")
    assert str(doubled) not in done.stderr


def test_words_changed_in_place_are_refused_by_every_command_that_trains(
    tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """After the corpus was edited nothing trains on it, and nothing is written."""
    corpus = tmp_path / "few.txt"
    shutil.copy(small_corpus, corpus)
    start = ("run", "--corpus", corpus, "-n", 1, "--steps", 40, "--workers", 1, "--quiet")
    warm_command(*start, folder=tmp_path, code=0)
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
        assert str(corpus) in one.stderr
    assert re.search(r"\bseed\b.*\b0\b.*\b5\b", done[0].stderr)
    assert contents(tmp_path) == before


def test_study_with_another_split_is_refused(copied: Path, warm_command: Warm) -> None:
    """Another shuffle would mix two dev splits."""
    path = copied / "runs/few/study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split_fingerprint": "0" * 64}))
    before = contents(copied)
    done = warm_command(*RUN, folder=copied, code=3)
    assert_told(done)
    assert "few" in done.stderr
    assert contents(copied) == before
