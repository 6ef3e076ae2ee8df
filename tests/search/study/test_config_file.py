"""`mmsearch init` and the config reference: they say what the code does."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as how_often

from docs.gen.config_reference import reference
from mmsearch.search.study.config_file import MEANINGS, differing, template
from mmsearch.search.study.settings import TABLES, Settings, read_config, settle
from mmsearch.search.study.space import DEFAULTS
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.journal import Journal
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.spaces import good_settings

ROOT = Path(__file__).resolve().parents[3]


def test_file_says_every_default_and_an_example(tmp_path: Path) -> None:
    """Read back it is the defaults, no key is missing, and the example of [[enqueue]] is one."""
    path = tmp_path / "all.toml"
    path.write_text(template())
    assert settle(read_config(path).settings) == Settings()
    tables = tomllib.loads(template())
    said = sorted(key for table in tables.values() for key in table)
    assert said == sorted([*(k for keys in TABLES.values() for k in keys), *DEFAULTS])
    assert {*(name for keys in TABLES.values() for name in keys.values()), *DEFAULTS} == {*MEANINGS}
    head, _, example = template().partition("# [[enqueue]]")
    path.write_text(head + "[[enqueue]]" + re.sub("^# ", "", example, flags=re.MULTILINE))
    assert len(read_config(path).enqueue) == 1


def test_reference_is_the_one_that_the_code_writes() -> None:
    """After a change: python docs/gen/config_reference.py > docs/config.md."""
    assert (ROOT / "docs" / "config.md").read_text() == reference()


@how_often(max_examples=40)
@given(settings=good_settings())
def test_study_s_settings_come_back(
    tmp_path_factory: pytest.TempPathFactory, settings: Settings
) -> None:
    """What a study's note and `mmsearch init --study` say is the same search."""
    path = tmp_path_factory.getbasetemp() / "study.toml"
    for write in (differing, template):
        path.write_text(write(settings))
        assert settle(read_config(path).settings) == settings


def test_what_is_at_its_default_is_left_out() -> None:
    """A note says what a person changed, and no more."""
    assert differing(Settings()) == ""
    assert differing(Settings(steps=5, segments=5)) == "[training]\nsteps = 5\nsegments = 5"


def test_command_writes_a_study_s_settings(searched: Path, tmp_path: Path) -> None:
    """Searched again with that file the study says that nothing differs."""
    place = ("--workspace", searched / "runs")
    run_in_process("init", "few.toml", "--study", "few", *place, folder=tmp_path, code=0)
    stored = StudyFile.require(Journal(searched / "runs/few")).settings
    assert settle(read_config(tmp_path / "few.toml").settings) == stored
    run_in_process("init", "no.toml", "--study", "none", *place, folder=tmp_path, code=2)
    assert not (tmp_path / "no.toml").exists()


def test_hint_searches_the_same_words_in_a_new_study(copied: Path, warm_command: Warm) -> None:
    """It is pasted after an edit, which the study itself would refuse."""
    done = warm_command("init", "few.toml", "--study", "few", folder=copied)
    path = copied / "few.toml"
    path.write_text(path.read_text().replace("steps = 400", "steps = 40"))
    line = done.stdout.partition("search with: mmsearch ")[2]
    warm_command(*shlex.split(line), "-n", 1, "--workers", 1, folder=copied, code=0)
    few, new = (StudyFile.require(Journal(copied / "runs" / n)) for n in ("few", "NEW-NAME"))
    assert new.corpus_fingerprint == few.corpus_fingerprint
    assert new.settings.steps == 40
    assert "--study NEW-NAME" in warm_command("init", "other.toml", folder=copied).stdout


def test_command_writes_a_new_file_alone(tmp_path: Path) -> None:
    """And tells what to type next; a file that is there stays."""
    path = tmp_path / "mmsearch.toml"
    done = run_in_process("init", folder=tmp_path)
    assert (done.exit_code, path.read_text()) == (0, template())
    assert "mmsearch run --config mmsearch.toml" in done.output
    path.write_text("# mine\n")
    again = run_in_process("init", folder=tmp_path, code=2)
    assert "mmsearch.toml" in again.error
    assert path.read_text() == "# mine\n"
    run_in_process("init", "no/folder.toml", folder=tmp_path, code=1)


def test_command_writes_the_article_s_recipe(tmp_path: Path) -> None:
    """The file says what `recipe = "article"` stands for, key by key."""
    run_in_process("init", "--article", folder=tmp_path, code=0)
    written = read_config(tmp_path / "mmsearch.toml").settings
    assert "recipe" not in written
    assert settle(written) == settle({"recipe": "article"})
