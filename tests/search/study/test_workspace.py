"""Studies have safe names, and one coordinator at a time, whichever way the last one ended."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.search.study.locks import own
from mmsearch.search.study.workspace import Workspace, check_name, name_from
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.ledger.user_file import UserLedger

HOLD = """
import sys
from pathlib import Path
from mmsearch.search.study.locks import own
from mmsearch.search.study.workspace import Workspace

with own(Workspace.at(Path(sys.argv[1])).journal("names")):
    print("owned", flush=True)
    sys.stdin.read()
"""
NAMES_OF_ITS_OWN = ("artifacts", "lock", "logs", "optuna.db", "optuna.db-wal", "mlflow.db")
GOOD = ("names", "n", "7", "names-2018", "names_v2", "a.b", "A" * 100, "müller", "名前", "имена")
BAD = (
    *("", ".", "..", "../names", "a/b", "/etc", "a\\b", "-names", "_names", ".names", "names."),
    *("a b", " names", "it's", 'a"b', "a\nb", "names\n", "a\0b", "a\tb", "a:b", "a?b", "a%b"),
    *("a#b", "a*b", "$HOME", "n" * 101, "𐐷" * 100, "names🎉", "\ud800", "\u202enames"),
    *(*NAMES_OF_ITS_OWN, "LOCK", "MLflow.db"),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Make an empty workspace."""
    made = Workspace.at(tmp_path / "runs")
    made.create()
    return made


def begin(workspace: Workspace, name: str) -> Journal:
    """Begin a study."""
    journal = workspace.journal(name)
    journal.create()
    journal.write_study({"name": name})
    return journal


@pytest.fixture
def journal(workspace: Workspace) -> Journal:
    """Begin a study called names."""
    return begin(workspace, "names")


@pytest.mark.parametrize("name", GOOD)
def test_plain_names_of_any_script_are_fine(workspace: Workspace, name: str) -> None:
    """A corpus of any language can give its study its name, and the name is a folder's."""
    begin(workspace, name)

    assert workspace.studies() == [name]


@pytest.mark.parametrize("name", BAD)
def test_name_that_is_no_folders_is_refused(workspace: Workspace, name: str) -> None:
    """A name stands in a path, a URL and a tag; nothing may be hidden in it, nor replaced by it."""
    for make in (check_name, workspace.journal):
        with pytest.raises(InputError):
            make(name)
    assert list(workspace.root.iterdir()) == []


@given(name=st.text(max_size=120) | st.from_regex(r"[\w.-]{1,105}", fullmatch=True))
@example("𐐷" * 63)
def test_accepted_name_is_one_visible_folder(name: str) -> None:
    """What passes is one part of a path, short enough for any file system, and not hidden."""
    try:
        check_name(name)
    except InputError:
        return
    assert Path(name).name == name
    assert len(os.fsencode(name)) <= 255
    assert name.isprintable()
    assert name[0].isalnum()


@given(stem=st.text(max_size=300))
@example("..")
@example("名" * 300)
@example("𐐷" * 300)
@example("a" * 99 + "." * 20)
def test_corpus_gives_its_study_a_name_that_passes(stem: str) -> None:
    """No corpus file is refused for its name; the study's name is made from it."""
    check_name(name_from(Path("corpora") / f"{stem.replace('/', '')}.txt"))
    check_name(name_from(Path(stem.replace("\0", ""))))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("names.txt", "names"),
        ("yob2018.csv.txt", "yob2018.csv"),
        ("My Names (2018).txt", "My-Names-2018"),
        ("зимa.txt", "зимa"),
        ("🎉.txt", "study"),
        *((f"{name}.txt", f"study-{name}") for name in NAMES_OF_ITS_OWN),
    ],
)
def test_name_made_from_a_file_is_close_to_it(file: str, name: str) -> None:
    """A person finds the study of a corpus by the corpus's name."""
    assert name_from(Path("some/where") / file) == name


def test_workspace_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A file in the way is named, with what to do."""
    (tmp_path / "runs").write_text("")

    for path in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(MMSearchError, match=r"runs.*--workspace"):
            Workspace.at(path).create()


def test_relative_workspace_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing the folder later does not move the studies."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.at(Path("runs"))
    monkeypatch.chdir("/")

    assert workspace.root == tmp_path / "runs"


def test_unclear_study_is_asked_for_by_name(workspace: Workspace) -> None:
    """Only one is taken without a name; else the message lists what there is, or how to begin."""

    def assert_asked(name: str | None, *named: str) -> None:
        with pytest.raises(InputError) as caught:
            workspace.existing(name)
        assert [part for part in named if part not in str(caught.value)] == []

    assert_asked(None, "mmsearch run")
    assert_asked("names", "'names'", "none", "run --study names")
    journal = begin(workspace, "names")
    for name in (None, "names"):
        assert workspace.existing(name).folder == journal.folder
    begin(workspace, "cities")
    (workspace.root / "not-a-study").mkdir()
    assert workspace.studies() == ["cities", "names"]
    assert_asked(None, "--study", "cities, names")
    assert_asked("towns", "'towns'", "cities, names")
    assert_asked("../runs/names", "letters, digits")


def test_study_has_one_owner_and_its_lock_ends_with_it(
    workspace: Workspace, journal: Journal
) -> None:
    """A second coordinator is told which process to end; after kill -9 nothing need be deleted."""
    for is_killed in (False, True):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, journal.folder.parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "owned\n"
            with pytest.raises(RefusedError) as caught, own(journal):
                pass
            with own(begin(workspace, f"cities-{is_killed}")):  # studies are searched side by side
                assert owner.poll() is None
            owner.send_signal(signal.SIGKILL) if is_killed else owner.communicate("")
            assert owner.wait() == (-signal.SIGKILL if is_killed else 0)
        assert caught.value.exit_code == 3
        assert "'names'" in str(caught.value)
        assert f"pid {owner.pid} on {socket.gethostname()};" in str(caught.value)
        with own(journal):
            assert f"pid {os.getpid()} " in (journal.folder / "lock").read_text()


def test_one_process_cannot_own_a_study_twice(journal: Journal) -> None:
    """The lock is held by the open file, so it also keeps two threads of one process apart."""
    with own(journal):
        for _ in range(2):  # the refused one took nothing away
            with pytest.raises(RefusedError, match=f"pid {os.getpid()} "), own(journal):
                pass
    with own(journal):
        pass


@pytest.mark.parametrize("room", ["database", "looks"])
def test_wait_for_another_process_is_told(
    workspace: Workspace,
    room: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person sees at which file a command hangs; nothing is said of what costs nothing."""
    looks = UserLedger(workspace.root / "ledger")

    def locked() -> AbstractContextManager[None]:
        return workspace.locked("mlflow") if room == "database" else looks.locked("0" * 64)

    def wait() -> None:
        with locked():
            is_in.set()

    with locked():
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(files, "SILENCE_S", 0.0)
        is_in, said = threading.Event(), ""
        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(200):
            said += capsys.readouterr().err
            if said:
                break
            time.sleep(0.02)
        assert not is_in.is_set()
    thread.join()

    assert is_in.is_set()
    path = "runs/mlflow.db-lock" if room == "database" else f"ledger/{'0' * 64}.lock"
    assert path in said
    assert said.count("\n") == 1


def test_artifacts_may_be_on_another_disk(tmp_path: Path) -> None:
    """A linked artifact folder is a usual set-up; the same link elsewhere is refused."""
    (tmp_path / "big").mkdir()
    root = tmp_path / "runs"
    root.mkdir()
    (root / "artifacts").symlink_to(tmp_path / "big")
    assert Workspace.at(root).root == root
    (root / "names").symlink_to(tmp_path / "big")
    with pytest.raises(InputError, match="names"):
        Workspace.at(root)
