"""The ledger: of all claims on a look, one counts, in SQLite and in PostgreSQL."""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from mmsearch.errors import MMSearchError
from mmsearch.search.optimizer.claims import OptunaLooks
from mmsearch.search.optimizer.storage import open_storage
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.ledger.record import NUMBERS, Look, merged
from mmsearch.tracking.ledger.user_file import UserLedger
from tests.support.postgres import postgres

SPLIT = "f" * 64
RESULT = {**dict.fromkeys(NUMBERS, 1), "test_loss": 2.0625, "spec": {}, "why": "ζ ± 1"}


def look(id_: str = "a", number: int = 1, model: str = "0" * 64) -> Look:
    """Make a claim."""
    return Look(
        id=id_,
        number=number,
        split=SPLIT,
        model_sha256=model,
        model="trial 3, seed 1",
        study="names",
        study_id="an-id",
        reason="" if number == 1 else "a bug in the split",
        claimed_ms=1000 * number,
        host="here",
    )


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Run a PostgreSQL for this file."""
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a storage without looks."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    url = str(request.getfixturevalue("database"))
    storage = open_storage(url)
    for name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    storage.engine.dispose()
    return url


def claim(url: str, claimed: Look) -> str:
    """Claim in a process of its own; the id of the look that counts."""
    storage = open_storage(url)
    accepted = OptunaLooks(storage).claim(claimed)
    storage.engine.dispose()
    return accepted.id


def test_claims_at_once_give_one_look(url: str) -> None:
    """Sixteen claims from eight processes: all are told of the same one, which is one of theirs."""
    open_storage(url).engine.dispose()
    claims = [look(id_=f"id-{n}", model=f"{n:064d}") for n in range(16)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(8, mp_context=context) as pool:
        told = list(pool.map(claim, [url] * 16, claims))
    assert len(set(told)) == 1
    assert told[0] in {each.id for each in claims}
    storage = open_storage(url)
    assert [each.id for each in OptunaLooks(storage).read(SPLIT)] == [told[0]]
    assert OptunaLooks(storage).claim(look("later")).id == told[0]
    (name,) = optuna.get_all_study_names(storage)
    states = [t.state for t in optuna.load_study(study_name=name, storage=storage).trials]
    storage.engine.dispose()
    assert states.count(TrialState.RUNNING) == 1
    assert states.count(TrialState.FAIL) == 16


def test_two_machines_may_finish_one_look(url: str) -> None:
    """Both had claimed it for one model: the first result is kept, and the second is no fault."""
    one, two = open_storage(url), open_storage(url)
    first, second = OptunaLooks(one), OptunaLooks(two)
    first.claim(look())
    study = optuna.load_study(study_name=f"mmsearch/test/{SPLIT}", storage=two)
    seen = replace(look(), result=RESULT)
    all_of_it = second._all(SPLIT)
    first.write(seen)
    second._all = lambda split: all_of_it  # type: ignore[method-assign]  # noqa: ARG005 (its name)
    second.write(replace(look(), result={**RESULT, "tested_ms": 2}))
    assert first.read(SPLIT) == [seen]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    for storage in (one, two):
        storage.engine.dispose()


def test_merge_prefers_what_has_a_result() -> None:
    """A store that was away when a look ended does not make it unfinished again."""
    seen = replace(look(), result=RESULT)
    other = look("b", 2)
    assert merged([[look()], [other, seen]]) == [seen, other]
    assert merged([[seen, other], [look()]]) == [seen, other]
    assert merged([[], []]) == []


def test_local_ledger_survives_a_torn_line(tmp_path: Path) -> None:
    """A process killed while it wrote leaves a line without its end, which was never written."""
    local = UserLedger(tmp_path / "ledger")
    with local.locked(SPLIT):
        assert local.read(SPLIT) == []
        local.write(look())
        path = tmp_path / "ledger" / f"{SPLIT}.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"id": "b", "num')
        assert local.read(SPLIT) == [look()]
        seen = replace(look(), result=RESULT)
        local.write(seen)
        local.write(seen)
        assert local.read(SPLIT) == [seen]
        assert path.read_bytes().startswith(whole)
        assert path.read_bytes().count(b"\n") == 2


def test_local_ledger_is_private(tmp_path: Path) -> None:
    """Reasons are nobody else's business."""
    local = UserLedger(tmp_path / "ledger")
    with local.locked(SPLIT):
        local.write(look())
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ledger").iterdir()} == {0o600}


def test_line_that_is_no_look_is_named(tmp_path: Path) -> None:
    """What cannot be read may say spent: it is an error with the file and line, and no look."""
    for line in ("{", "[]", "{}", "[" * 10_000, json.dumps({**look().to_json(), "result": "x"})):
        (tmp_path / f"{SPLIT}.jsonl").write_text(line + "\n")
        with pytest.raises(JournalError, match="line 1"):
            UserLedger(tmp_path).read(SPLIT)


def test_foreign_trial_in_optunas_ledger_is_named(tmp_path: Path) -> None:
    """What cannot be read may say spent."""
    storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
    study = optuna.create_study(study_name=f"mmsearch/test/{SPLIT}", storage=storage)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(MMSearchError, match="trial 0"):
        OptunaLooks(storage).read(SPLIT)
    storage.engine.dispose()


def test_local_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Without a place to remember, no look is taken."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(JournalError, match="cannot be made"),
        UserLedger(tmp_path / "file" / "ledger").locked(SPLIT),
    ):
        pass
