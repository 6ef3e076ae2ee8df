"""`mmsearch figures`: the figures of a study or of a trial, taken along as files."""

import json
from pathlib import Path

import pytest

from tests.support.forked_cli import Warm

SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
OF_STUDY = {"history", "parallel_coordinates", "trade_off"}
OF_TRIAL = {"loss", "embedding"}


def drawn(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("form", "words", "names"),
    [("png", (), OF_STUDY), ("svg", ("--trial", 2), OF_TRIAL), ("pdf", (), OF_STUDY)],
)
def test_figures_are_written_the_same_each_time(
    copied: Path, warm_command: Warm, form: str, words: tuple[object, ...], names: set[str]
) -> None:
    """Every figure that the trials allow, whole, and with the same bytes when drawn again."""
    for name in ("new/a", "b"):
        done = warm_command("figures", name, *words, "--format", form, folder=copied, code=0)
        assert f"'{name}'" in done.stdout
    files = drawn(copied / "new/a")
    assert set(files) == {f"{name}.{form}" for name in names}
    assert all(content.startswith(SIGNATURES[form]) for content in files.values())
    assert drawn(copied / "b") == files


def test_confirmation_is_drawn_once_there_is_one(reconfirmed: Path, warm_command: Warm) -> None:
    """The JSON lists what was written."""
    done = warm_command("figures", "drawn", "--json", folder=reconfirmed)
    assert set(json.loads(done.stdout)["files"]) == {
        f"{n}.png" for n in {*OF_STUDY, "confirmation"}
    }


def test_figures_overwrite_nothing(copied: Path, warm_command: Warm) -> None:
    """A folder in use, a file in its place and a wrong number leave everything as it was."""
    (copied / "mine").mkdir()
    (copied / "mine/history.png").write_text("mine")
    (copied / "taken").write_text("mine")
    for words, named in (
        (("mine",), "'mine'"),
        (("taken",), "'taken'"),
        (("new", "--trial", 77), "mmsearch trials"),
        (("new", "--format", "gif"), "gif"),
    ):
        done = warm_command("figures", *words, folder=copied, code=2)
        assert named in done.stderr
    assert drawn(copied / "mine") == {"history.png": b"mine"}
    assert (copied / "taken").read_text() == "mine"
    assert not (copied / "new").exists()


def test_study_without_an_ended_trial_is_not_drawn(copied: Path, warm_command: Warm) -> None:
    """An empty folder would tell nobody why it is empty."""
    for path in (copied / "runs/few/trials").glob("*/outcome.json"):
        path.unlink()
    done = warm_command("figures", "drawn", folder=copied, code=3)
    assert "few" in done.stderr
    assert not (copied / "drawn").exists()
