"""Config files: only known keys are read, and `mmsearch init` and the reference tell the truth."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as how_often
from hypothesis import strategies as st

from docs.gen.config_reference import reference
from mmsearch.errors import InputError
from mmsearch.search.study.config_file import (
    MEANINGS,
    TABLES,
    Config,
    differing,
    read_config,
    template,
)
from mmsearch.search.study.settings import Settings, settle
from mmsearch.search.study.space import DEFAULTS, TRAINING
from mmsearch.search.study.study_file import StudyFile
from mmsearch.tracking.journal.journal import Journal
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.spaces import good_settings

ROOT = Path(__file__).resolve().parents[3]
KEYS = ["recipe", *sorted(key for keys in TABLES.values() for key in keys)]
SHORT_VALUES = """
1 0 -1 20 20000 1.0 nan inf -inf 1e999 true false "tpe" 'none' "" "cosine" [] [1] {} {low=1} \"\"\"
{low=1,high=2} {low=1,high=4,log=true} {low="a",high=[]} 1979-05-27 07:32:00 0x10 1_000 {low=[]}
"article" "sgd" {choices=["sgd","adam"]} {choices=[1,2]} {choices=[]} {low=1,high=9e300,step=1}
{low=2,high=1} {low=0,high=1,log=true} {low=nan,high=1} {low=1e-300,high=1e300}
"""
LONG_VALUES = ("9" * 400, "9" * 5000, "0x" + "f" * 5000, "[" * 3000, "{x=" * 2000)
LINES = st.one_of(
    st.sampled_from(["[corpus]", "[training]", "[search]", "[space]", "[[enqueue]]", "[odd]"]),
    st.sampled_from(["[[search]]", "[space.learning_rate]", "[enqueue]", "enqueue = [1]", "#", ""]),
    st.builds(
        "{} = {}".format,
        st.sampled_from([*KEYS, *DEFAULTS, *TRAINING, "odd", "a.b"]),
        st.sampled_from([*SHORT_VALUES.split(), *LONG_VALUES]),
    ),
    st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8),  # or no UTF-8
)


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name a config file for tests that write it many times."""
    return tmp_path_factory.mktemp("config") / "study.toml"


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


CONFIG = """
[corpus]
keep_duplicates = true
[training]
steps = 500
init = "article"
[search]
sampler = "random"
[space]
hidden_width = 64
learning_rate = { low = 0.05, high = 0.5, log = true }
[[enqueue]]
learning_rate = 0.1
[[enqueue]]
"""


def test_config_says_what_it_says_and_no_more(config_path: Path) -> None:
    """Only given settings are compared with a stored study's, so defaults may not sneak in."""
    config_path.write_text(CONFIG)
    rate = {"low": 0.05, "high": 0.5, "log": True}
    space = {"hidden_width": 64, "learning_rate": rate}
    given = {"keep_duplicates": True, "steps": 500, "init": "article", "sampler": "random"}
    assert read_config(config_path) == Config(
        {**given, "space": space}, ({"learning_rate": 0.1}, {})
    )
    config_path.write_text("")
    assert read_config(config_path) == Config({})


def test_flag_goes_before_the_file_while_it_is_checked(config_path: Path) -> None:
    """A file that is right with the flags, or for a stored study, is not refused for its own."""
    config_path.write_text("[training]\nsegments = 20000")
    assert read_config(config_path, {"steps": 50_000}).settings == {"segments": 20_000}
    assert read_config(config_path, stored=Settings(steps=30_000)).settings == {"segments": 20_000}
    with pytest.raises(InputError, match=r"study\.toml.*segments"):
        read_config(config_path)

    config_path.write_text("[training]\nsteps = 10\n")
    assert read_config(config_path, {"steps": 300}).settings == {"steps": 10}, "it is not used"

    config_path.write_text("[search]\nlanes = 2\n")
    with pytest.raises(InputError) as caught:
        read_config(config_path, {"steps": 10})
    assert "study.toml" not in str(caught.value), "an error of a flag alone"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[model]\nx = 1", "[model]"),
        ("steps = 100", "[steps]"),
        ("training = 100", "training must be a table"),
        ("[[training]]\nsteps = 1", "training must be a table"),
        ("[search]\nsteps = 100", "'steps' in [search]"),
        ("[training]\nsteps = 10.5", "10.5"),
        ("[training]\nsteps = 10", "steps"),
        ("[training]\nrecipe = []", "recipe"),
        ('[space]\noptimizer = { choices = ["sgd", "adam"] }', "learning_rate"),
        ("[space]\npatience = 3", "'patience'"),
        ("space = 3", "space must be a table"),
        ("[enqueue]\nseed = 1", "[[enqueue]]"),
        ("enqueue = [1]", "[[enqueue]]"),
        ("a = 1\na = 2", "TOML"),
        ("[training]\nsteps = " + "9" * 5000, "TOML"),
        ("a = " + "[" * 5000, "nested"),
    ],
)
def test_config_that_cannot_be_meant_is_refused(config_path: Path, text: str, named: str) -> None:
    """A misspelt key that was ignored would search something else than was asked for."""
    config_path.write_text(text)

    with pytest.raises(InputError) as caught:
        read_config(config_path)

    assert str(config_path) in str(caught.value)
    assert named in str(caught.value)


def test_config_of_another_editor_is_read(config_path: Path) -> None:
    """A byte-order mark and ends of lines with a carriage return mean nothing; UTF-16 is named."""
    text = "[training]\r\nsteps = 500\r\n"
    config_path.write_bytes(text.encode("utf-8-sig"))
    assert read_config(config_path).settings == {"steps": 500}
    config_path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=r"UTF-16.*: iconv ") as caught:
        read_config(config_path)
    command, folder = str(caught.value).partition("convert it with: ")[2], config_path.parent
    assert subprocess.run(["sh", "-c", command], cwd=folder, check=False).returncode == 0
    [made] = set(folder.iterdir()) - {config_path}
    assert read_config(made).settings == {"steps": 500}


def test_config_that_is_no_text_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and other bytes than UTF-8 are named, each with its reason."""
    latin = tmp_path / "latin.toml"
    latin.write_bytes("[corpus] # é".encode("latin-1"))

    for path, reason in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (latin, "TOML"),
        (tmp_path / "nul\0.toml", "null byte"),
    ):
        with pytest.raises(InputError, match=reason):
            read_config(path)


@given(lines=st.lists(LINES, max_size=8))
@example(lines=["[space]", "embedding_dim = " + "9" * 400])
@example(lines=["[search]", "seed = 0x" + "f" * 5000])
def test_any_text_gives_a_config_or_an_input_error(config_path: Path, lines: list[str]) -> None:
    """Whatever a person writes, the answer is a config that can be used or one line of help."""
    config_path.write_text("\n".join(lines), "utf-8", errors="surrogatepass")
    try:
        config = read_config(config_path)
        for point in config.enqueue:
            settle(config.settings).space.check_point(point)
    except InputError:
        return
    assert isinstance(config, Config)
    settings = settle(config.settings)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
