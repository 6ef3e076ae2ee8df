"""`mmsearch final-test`: one look, whatever is killed, taken away or asked at once."""

import io
import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import Claim, split_corpus
from mmsearch.model import checkpoint
from mmsearch.model.evaluation import mean_loss
from mmsearch.model.ngram import choose_ngram, ngram_losses
from mmsearch.search.cli.final_test_command import print_final_test, to_json
from mmsearch.search.optimizer.storage import open_storage
from mmsearch.search.results.final_evaluation import FinalTest
from mmsearch.search.results.final_note import final_note
from mmsearch.search.study.locks import own
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked
from mmsearch.tracking.ledger.record import Look
from tests.support import fault_injection as faults
from tests.support.commands import Mmsearch
from tests.support.fault_injection import COUNT_LOOKS as COUNT
from tests.support.fault_injection import Kill
from tests.support.forked_cli import Command, Warm
from tests.support.json_reference import check_documented
from tests.support.postgres import postgres

POINTS = {
    "before the claim": Kill(call=faults.CLAIM_IN_OPTUNA, at="before"),
    "after the claim": Kill(call=faults.CLAIM_IN_OPTUNA, at="after"),
    "after the user's ledger": Kill(
        call=faults.WRITE_IN_USER_LEDGER, at="after", named=faults.CLAIMED
    ),
    "after MLflow's run": Kill(call=faults.CREATE_IN_MLFLOW, at="after", named=faults.CLAIMED),
    "before a word is read": Kill(call=faults.OPEN_TEST_WORDS, at="before"),
    "after the words are read": Kill(call=faults.OPEN_TEST_WORDS, at="after"),
    "before the result": Kill(call=faults.WRITE_IN_OPTUNA, at="before", named=faults.EVALUATED),
    "within Optuna's result": Kill(call=faults.OPTUNA_TELL, at="before"),
    "after Optuna's result": Kill(call=faults.WRITE_IN_OPTUNA, at="after", named=faults.EVALUATED),
    "after the user's result": Kill(
        call=faults.WRITE_IN_USER_LEDGER, at="after", named=faults.EVALUATED
    ),
    "after MLflow's result": Kill(call=faults.WRITE_IN_MLFLOW, at="after", named=faults.EVALUATED),
    "after the model": Kill(call=faults.PUBLISH_MODEL, at="after"),
}


def n_looks(folder: Path) -> int:
    """Count how often the test words were handed out under `COUNT`."""
    path = folder / "looks"
    return len(path.read_text().split()) if path.exists() else 0


def optuna_looks(url: str) -> list[optuna.trial.FrozenTrial]:
    """Find the looks as a person with plain Optuna would."""
    storage = open_storage(url)
    names = [n for n in optuna.get_all_study_names(storage) if n.startswith("mmsearch/test/")]
    found = [
        trial
        for name in names
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    ]
    storage.engine.dispose()
    return found


def mlflow_looks(uri: str) -> list[Run]:
    """Find the looks as a person with plain MLflow would."""
    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, "tags.mmsearch.kind = 'final-test'"))


def places(folder: Path) -> tuple[str, str]:
    """Name a workspace's own databases."""
    return f"sqlite:///{folder}/runs/optuna.db", f"sqlite:///{folder}/runs/mlflow.db"


def local_looks(folder: Path) -> list[dict[str, Any]]:
    """Read the user's own ledger: what each look was last."""
    lines = [
        json.loads(line)
        for path in folder.glob(".local/share/mmsearch/ledger/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return list({line["id"]: line for line in lines}.values())


def assert_one_look(folder: Path, test_loss: float) -> None:
    """Hold the ledgers, MLflow's run and its registry against each other."""
    storage, tracking = places(folder)
    (trial,) = optuna_looks(storage)
    (run,) = mlflow_looks(tracking)
    (local,) = local_looks(folder)
    assert trial.state.name == "COMPLETE"
    assert trial.value == local["result"]["test_loss"] == test_loss
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_loss"] == test_loss
    assert run.data.tags["mmsearch.look_id"] == local["id"]
    client = MlflowClient(tracking)
    champion = client.get_model_version_by_alias("mmsearch-few", "champion")
    assert champion.tags["mmsearch.model_sha256"] == local["model_sha256"]
    assert len(client.search_model_versions("name = 'mmsearch-few'")) == 1


@pytest.fixture
def best(searched: Path) -> int:
    """Give the number of the study's best trial."""
    return ranked(Journal(searched / "runs/few").records())[0].number


@pytest.fixture
def other(searched: Path) -> int:
    """Give the number of another complete trial."""
    return ranked(Journal(searched / "runs/few").records())[1].number


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory, searched: Path, warm_command: Warm) -> Path:
    """Take a look; to be copied. What the command printed is in its file `printed.txt`."""
    folder = tmp_path_factory.mktemp("looked")
    shutil.copytree(searched / "runs", folder / "runs")
    done = warm_command("final-test", folder=folder, patch=COUNT, code=0)
    assert n_looks(folder) == 1
    (folder / "looks").unlink()
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def spent(looked: Path, tmp_path: Path) -> Path:
    """Copy a workspace whose best trial was tested, and the user's ledger, into a folder."""
    shutil.copytree(looked, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_final_test_says_what_it_should(
    spent: Path, warm_command: Warm, small_corpus: Path, best: int
) -> None:
    """The loss is that of an independent evaluation; beside it stand dev and the baselines."""
    printed = (spent / "printed.txt").read_text()
    assert all(len(line) <= 80 for line in printed.splitlines())
    for word in ("test", "dev", "n-gram", "bigram counts", "uniform", "95 %", f"trial {best}"):
        assert word in printed
    corpus = read_corpus(small_corpus)
    split = split_corpus(corpus)
    record = Journal(spent / "runs/few").read(best)
    parameters = checkpoint.from_bytes(Journal(spent / "runs/few").read_weights(record))
    words = split.test.open(Claim(model_sha256="", split_fingerprint=split.fingerprint))
    contexts = build_contexts(words, corpus.vocabulary, record.spec.block_size)
    said = json.loads(warm_command("final-test", "--json", folder=spent).stdout)
    assert said["is_recorded"]
    assert said["test_loss"] == pytest.approx(mean_loss(parameters, distinct(contexts)), abs=1e-6)
    assert said["test_loss_low"] < said["test_loss"] < said["test_loss_high"]
    assert said["test_bits_per_char"] == pytest.approx(said["test_loss"] / math.log(2))
    assert said["test_perplexity"] == pytest.approx(math.exp(said["test_loss"]))
    assert said["uniform_loss"] == pytest.approx(math.log(corpus.vocabulary.size))
    assert said["test_loss"] < said["bigram_loss"] < said["uniform_loss"]
    chosen = choose_ngram(split.train, split.dev, corpus.vocabulary)
    ngram = ngram_losses(
        split.train, words, corpus.vocabulary, order=chosen.order, strength=chosen.strength
    )
    assert said["ngram_loss"] == ngram.mean
    assert (said["ngram_order"], said["ngram_strength"]) == (chosen.order, chosen.strength)
    assert said["anyway"] is False
    assert said["dev_loss"] == record.dev_loss
    assert said["n_test_words"] == len(words) == len(split.test)
    assert said["why"].startswith("lowest dev loss of ")


def test_look_is_a_run_of_its_own_in_mlflow(spent: Path, best: int) -> None:
    """A plain client finds the numbers, the model and the test split as a dataset."""
    (run,) = mlflow_looks(places(spent)[1])
    assert run.data.tags["mmsearch.model"] == f"trial {best}"
    spec = Journal(spent / "runs/few").read(best).spec
    assert run.data.params == {name: str(value) for name, value in spec.to_json().items()}
    assert {"test_loss", "test_loss_low", "test_loss_high", "dev_loss", "bigram_loss"} <= set(
        run.data.metrics
    )
    assert run.inputs is not None
    (dataset,) = run.inputs.dataset_inputs
    assert {tag.key: tag.value for tag in dataset.tags} == {"mlflow.data.context": "test"}
    assert run.data.tags["mmsearch.split"].startswith(dataset.dataset.digest)
    parent = MlflowClient(places(spent)[1]).get_run(run.data.tags["mlflow.parentRunId"])
    assert "Final test, look 1" in parent.data.tags["mlflow.note.content"]
    assert parent.info.status == "FINISHED"


def test_same_model_again_gets_the_recorded_number(spent: Path, warm_command: Warm) -> None:
    """Asked again, nothing is opened, and it is said that the number is the recorded one."""
    first = (spent / "printed.txt").read_text()
    again = warm_command("final-test", folder=spent, patch=COUNT, code=0)
    assert n_looks(spent) == 0
    assert "the test split was not opened again" not in first
    assert "the test split was not opened again" in again.stdout
    *result, recorded = first.splitlines()
    assert "look 1" in recorded
    assert again.stdout.splitlines()[: len(result)] == result


def test_another_model_is_refused_and_again_is_numbered(
    spent: Path, warm_command: Warm, best: int, other: int
) -> None:
    """The honest way out is a second look, kept for good and printed beside every result."""
    refused = warm_command("final-test", "--trial", other, folder=spent, patch=COUNT, code=3)
    assert n_looks(spent) == 0
    assert f"look 1: trial {best} of study 'few', 20" in refused.stderr
    assert '--again "REASON"' in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    words = ("final-test", "--trial", other, "--again", "a bug in the search")
    done = warm_command(*words, folder=spent, patch=COUNT, code=0)
    assert (spent / "looks").read_text() == "2\n"
    for each in (done, warm_command("final-test", folder=spent)):
        assert "2 looks at this test split so far" in each.stdout
        assert 'because "a bug in the search"' in " ".join(each.stdout.split())
    warm_command("final-test", "--again", "to be sure", folder=spent, patch=COUNT, code=0)
    said = json.loads(warm_command("final-test", "--json", folder=spent).stdout)
    assert [look["look"] for look in said["looks"]] == [1, 2, 3]
    assert len(mlflow_looks(places(spent)[1])) == len(optuna_looks(places(spent)[0])) == 3
    client = MlflowClient(places(spent)[1])
    champion = client.get_model_version_by_alias("mmsearch-few", "champion")
    assert champion.tags["mmsearch.model_sha256"] == said["looks"][2]["model_sha256"]


def test_model_that_counting_beats_is_not_worth_a_look(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """It is refused before anything is claimed; told otherwise, the look says so for good."""
    (copied / "poor.toml").write_text("[space]\nlearning_rate = 1e-6\n")
    poor = ("--study", "poor")
    run = ("run", *poor, "--corpus", small_corpus, "--config", "poor.toml", "-n", 1, "--steps", 40)
    searched = warm_command(*run, folder=copied, code=0)
    assert "bigram counts" in searched.stdout
    refused = warm_command("final-test", *poor, folder=copied, patch=COUNT, code=3)
    dev_loss = ranked(Journal(copied / "runs/poor").records())[0].dev_loss
    baselines = Journal(copied / "runs/poor").read_baselines()
    assert baselines is not None
    for said in (f"{dev_loss:.4f}", f"{baselines.bigram:.4f}", "--anyway"):
        assert said in refused.stderr
    assert not optuna_looks(places(copied)[0])
    assert not mlflow_looks(places(copied)[1])
    assert not local_looks(copied)
    done = warm_command("final-test", *poor, "--anyway", folder=copied, patch=COUNT, code=0)
    assert "--anyway" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    recorded = warm_command("final-test", *poor, "--json", folder=copied, patch=COUNT)
    assert recorded.returncode == 0, "what is recorded is given without being told"
    assert json.loads(recorded.stdout)["anyway"] is True
    assert n_looks(copied) == 1
    again = ("final-test", *poor, "--trial", 0, "--again", "to be sure")
    warm_command(*again, folder=copied, patch=COUNT, code=3)
    assert n_looks(copied) == 1


def test_result_of_an_earlier_version_is_shown(spent: Path) -> None:
    """It has no n-gram, and loses nothing else by that."""
    (recorded,) = local_looks(spent)
    later = ("ngram_loss", "ngram_order", "ngram_strength", "anyway")
    result = {name: v for name, v in recorded["result"].items() if name not in later}
    look = Look.from_json({**recorded, "result": result})
    test = FinalTest(look=look, is_recorded=True, looks=[look])
    console = Console(width=80, record=True, file=io.StringIO())

    print_final_test(console, test)

    assert f"{result['test_loss']:.4f}" in console.export_text()
    assert f"{result['test_loss']:.4f}" in final_note(look)
    check_documented("final-test", to_json(test))


@pytest.mark.parametrize(
    ("reason", "named"),
    [
        *((reason, "") for reason in ("", "  ", "x" * 501, "a\x1b[31m")),
        ("why not", "leave --again"),
    ],
)
def test_again_needs_a_reason_and_a_first_look(
    copied: Path, warm_command: Warm, reason: str, named: str
) -> None:
    """Neither a reason that says nothing nor a slip of the fingers makes a second look."""
    done = warm_command("final-test", "--again", reason, folder=copied, patch=COUNT, code=2)
    assert named in done.stderr
    assert n_looks(copied) == 0


def test_confirmed_model_is_the_one_that_is_tested(reconfirmed: Path, warm_command: Warm) -> None:
    """Its dev loss, its mean over seeds and why it was chosen stand beside the result."""
    done = warm_command("final-test", folder=reconfirmed, code=0)
    assert "best seed of the best mean" in done.stdout
    assert "dev, mean of seeds" in done.stdout
    assert "models:/mmsearch-few@champion" in done.stdout
    more = warm_command("confirm", "--top", 2, "--seeds", 2, folder=reconfirmed)
    assert "look 1: " in more.stdout
    assert "test once" not in more.stdout
    said = json.loads(warm_command("final-test", "--json", folder=reconfirmed).stdout)
    assert ", seed " in said["model"]
    assert said["dev_loss"] <= said["dev_loss_mean"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_same_model_finishes(
    copied: Path, warm_command: Warm, other: int, point: str
) -> None:
    """Kill -9 between claim and result: no other model may start, and one look comes of it."""
    warm_command("final-test", folder=copied, patch=POINTS[point].patch, code=-signal.SIGKILL)
    if point != "before the claim":
        refused = warm_command("final-test", "--trial", other, folder=copied, patch=COUNT, code=3)
        assert "look 1: " in refused.stderr
        assert n_looks(copied) == 0
    done = warm_command("final-test", "--json", folder=copied, patch=COUNT, code=0)
    said = json.loads(done.stdout)
    assert [look["look"] for look in said["looks"]] == [1]
    assert said["is_recorded"] == (n_looks(copied) == 0)
    assert_one_look(copied, said["test_loss"])


def test_twenty_at_once_take_one_look(copied: Path, warm_command: Warm) -> None:
    """Twenty processes of one study: one looks, the others get what it recorded."""
    command = Command(("final-test", "--json"), copied, COUNT)
    done = warm_command.together([command] * 20)
    assert [each.returncode for each in done] == [0] * 20
    said = [json.loads(each.stdout) for each in done]
    assert n_looks(copied) == 1
    assert sorted(each["is_recorded"] for each in said) == [False] + [True] * 19
    assert len({each["test_loss"] for each in said}) == 1
    assert_one_look(copied, said[0]["test_loss"])


def machine(source: Path, folder: Path, storage: str) -> Path:
    """Make a machine of its own: a home, and a workspace on a shared Optuna storage."""
    folder.mkdir()
    shutil.copytree(source / "runs", folder / "runs")
    rename(folder, folder.name, storage)
    return folder


def rename(folder: Path, name: str, storage: str | None = None) -> None:
    """Make a workspace's study another one, and known to Optuna."""
    (folder / "runs/few").rename(folder / "runs" / name)
    path = folder / "runs" / name / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"storage": storage, "id": name}))
    opened = open_storage(storage or places(folder)[0])
    optuna.create_study(study_name=name, storage=opened).set_user_attr("mmsearch.id", name)
    opened.engine.dispose()


def test_machines_that_share_a_storage_take_one_look(
    searched: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """Eight machines with models of their own, at once: one wins, seven are refused by its name."""
    with postgres() as storage:
        open_storage(storage).engine.dispose()
        machines = [machine(searched, tmp_path / f"m{n}", storage) for n in range(8)]
        numbers = [r.number for r in ranked(Journal(searched / "runs/few").records())]
        commands = [
            Command(("final-test", "--trial", numbers[n % len(numbers)]), folder, COUNT)
            for n, folder in enumerate(machines)
        ]
        done = warm_command.together(commands)
        looked = {
            f"trial {numbers[n % len(numbers)]}" for n, m in enumerate(machines) if n_looks(m)
        }
        assert len(looked) == 1, [each.stderr for each in done]
        for each in done:
            if each.returncode:
                assert each.returncode == 3
                assert f"look 1: {next(iter(looked))} of study 'm" in each.stderr
        assert [t.state.name for t in optuna_looks(storage)].count("COMPLETE") == 1


def test_postgresql_holds_study_and_ledger(
    tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """On a server, too: killed after the claim, another is refused, and twenty take one look."""
    with postgres() as url:
        words = ("run", "--corpus", small_corpus, "-n", 2, "--steps", 100, "--storage", url)
        warm_command(*words, "--pruner", "none", folder=tmp_path, code=0)
        numbers = [r.number for r in ranked(Journal(tmp_path / "runs/few").records())]
        patch = POINTS["after the claim"].patch
        warm_command("final-test", folder=tmp_path, patch=patch, code=-signal.SIGKILL)
        warm_command("final-test", "--trial", numbers[1], folder=tmp_path, patch=COUNT, code=3)
        done = warm_command.together([Command(("final-test", "--json"), tmp_path, COUNT)] * 20)
        assert [each.returncode for each in done] == [0] * 20, done[0].stderr
        assert n_looks(tmp_path) == 1
        (trial,) = optuna_looks(url)
        assert {json.loads(each.stdout)["test_loss"] for each in done} == {trial.value}


def test_another_study_over_the_same_words_is_refused(
    spent: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """A new study does not make the test words unseen, in whatever order they were shuffled."""
    words = ("run", "--corpus", small_corpus, "--study", "two", "-n", 1, "--steps", 100)
    warm_command(*words, "--workers", 1, folder=spent, code=0)
    done = warm_command("final-test", "--study", "two", folder=spent, patch=COUNT, code=3)
    assert "of study 'few'" in done.stderr
    assert n_looks(spent) == 0


def test_same_model_of_another_study_gets_the_recorded_number(
    spent: Path, warm_command: Warm
) -> None:
    """A study made again, bit for bit, has the model that was looked at: no second look."""
    shutil.copytree(spent / "runs/few", spent / "saved")
    rename(spent, "twin")
    (spent / "saved").rename(spent / "runs/few")
    done = warm_command("final-test", "--study", "twin", folder=spent, patch=COUNT, code=0)
    assert not done.stderr
    assert "the test split was not opened again" in done.stdout
    assert n_looks(spent) == 0


def test_spent_split_is_said_where_it_matters(
    spent: Path, searched: Path, warm_command: Warm, small_corpus: Path, best: int
) -> None:
    """Who searches on after a look, or shows the corpus, is told of it."""
    before = warm_command("corpus", small_corpus, folder=searched).stdout
    assert "look 1" not in before
    for words in (("corpus", small_corpus), ("run", "--study", "few", "-n", 4)):
        said = warm_command(*words, folder=spent).stdout
        assert f"look 1: trial {best} of study 'few'" in said
    assert json.loads(warm_command("corpus", small_corpus, "--json", folder=spent).stdout)["looks"]


def forget(folder: Path, *stores: str) -> None:
    """Lose stores of a workspace, as an accident would."""
    for store in stores:
        if store == "user":
            shutil.rmtree(folder / ".local")
        else:
            for path in (folder / "runs").glob(f"{store}.db*"):
                path.unlink()


@pytest.mark.parametrize("lost", [("mlflow",), ("user",), ("mlflow", "user")], ids=" and ".join)
def test_optuna_alone_says_spent(
    spent: Path, warm_command: Warm, other: int, lost: tuple[str, ...]
) -> None:
    """With the other two gone, the recorded number is given, and another model refused."""
    (first,) = local_looks(spent)
    forget(spent, *lost)
    warm_command("final-test", "--trial", other, folder=spent, patch=COUNT, code=3)
    again = json.loads(warm_command("final-test", "--json", folder=spent, patch=COUNT).stdout)
    assert (again["is_recorded"], again["test_loss"]) == (True, first["result"]["test_loss"])
    assert n_looks(spent) == 0
    assert_one_look(spent, first["result"]["test_loss"])


def test_user_alone_says_spent(
    copied: Path, warm_command: Warm, small_corpus: Path, other: int
) -> None:
    """`rm -r runs` and another search is not another test split."""
    warm_command("final-test", "--trial", other, folder=copied, code=0)
    shutil.rmtree(copied / "runs")
    words = ("run", "--corpus", small_corpus, "-n", 1, "--steps", 100, "--workers", 1)
    warm_command(*words, folder=copied, code=0)
    done = warm_command("final-test", folder=copied, patch=COUNT, code=3)
    assert f"look 1: trial {other} of study 'few'" in done.stderr
    assert n_looks(copied) == 0


def test_mlflow_alone_says_spent_when_the_workspace_is_gone(
    searched: Path, tmp_path: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """On a shared MLflow, another machine's new workspace is told; a deleted run still tells."""
    uri = f"sqlite:///{tmp_path}/shared.db"
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    shutil.copytree(searched / "runs", here / "runs")
    warm_command("final-test", "--tracking-uri", uri, folder=here, code=0)
    shutil.rmtree(here)
    (run,) = mlflow_looks(uri)
    MlflowClient(uri).delete_run(run.info.run_id)
    words = ("--corpus", small_corpus, "-n", 1, "--steps", 100, "--tracking-uri", uri)
    warm_command("run", *words, "--workers", 1, folder=there, code=0)
    done = warm_command("final-test", folder=there, patch=COUNT, code=3)
    assert "(look 1:" in done.stderr
    assert n_looks(there) == 0


def test_machines_that_share_mlflow_alone_do_not_both_look(
    searched: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """Two Optuna storages that know nothing of each other: who sees the other's claim yields."""
    uri = f"sqlite:///{tmp_path}/shared.db"
    numbers = [r.number for r in ranked(Journal(searched / "runs/few").records())]
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        shutil.copytree(searched / "runs", folder / "runs")
        rename(folder, folder.name)
    words = ("final-test", "--tracking-uri", uri, "--trial")
    # Both have claimed, each in its own Optuna, before either has written to MLflow.
    for folder, number in ((one, numbers[0]), (two, numbers[1])):
        killed = warm_command(*words, number, folder=folder, patch=POINTS["after the claim"].patch)
        assert killed.returncode == -signal.SIGKILL
    warm_command(*words, numbers[0], folder=one, patch=COUNT, code=0)
    for _ in range(2):
        second = warm_command(*words, numbers[1], folder=two, patch=COUNT, code=3)
        assert f"look 1: trial {numbers[0]} of study 'one'" in second.stderr
    assert (n_looks(one), n_looks(two)) == (1, 0)
    warm_command(*words, numbers[1], "--again", "ours", folder=two, patch=COUNT, code=0)
    assert (two / "looks").read_text() == "2\n"


def test_rival_that_appears_after_the_claim_is_yielded_to(copied: Path, warm_command: Warm) -> None:
    """MLflow is asked once more between the claim and the words."""
    rival = "dataclasses.replace(look, id='x', model='theirs', model_sha256='9' * 64)"
    write = f"lambda self, look, **more: (claims.append({rival}), real(self, look, **more))[1]"
    patch = (
        "import dataclasses\nclaims = []\n"
        + COUNT
        + faults.replaced(faults.WRITE_IN_MLFLOW, write)
        + faults.replaced(
            faults.READ_IN_MLFLOW, "lambda self, split: [*real(self, split), *claims]"
        )
    )
    done = warm_command("final-test", folder=copied, patch=patch, code=3)
    assert "look 1: theirs of study" in done.stderr
    assert n_looks(copied) == 0


def test_storage_that_is_not_the_studys_is_refused(
    spent: Path, warm_command: Warm, other: int
) -> None:
    """A ledger in a database that a slip of the fingers made knows of no look."""
    words = ("final-test", "--trial", other, "--storage", "sqlite:///typo.db")
    forget(spent, "user", "mlflow")
    done = warm_command(*words, folder=spent, patch=COUNT, code=3)
    assert "'few'" in done.stderr
    assert n_looks(spent) == 0


def test_claim_whose_run_was_deleted_can_be_finished(copied: Path, warm_command: Warm) -> None:
    """A tidy hand in MLflow's UI does not take a claim away from its model."""
    point = POINTS["before a word is read"].patch
    warm_command("final-test", folder=copied, patch=point, code=-signal.SIGKILL)
    uri = places(copied)[1]
    MlflowClient(uri).delete_run(mlflow_looks(uri)[0].info.run_id)
    done = warm_command("final-test", "--json", folder=copied, code=0)
    assert_one_look(copied, json.loads(done.stdout)["test_loss"])


def test_recorded_number_needs_no_password(spent: Path, warm_command: Warm) -> None:
    """What is recorded is given without MLflow, also where its password would have to be given."""
    path = spent / "runs/few/study.json"
    away = {"tracking_uri": "http://me:***@127.0.0.1:9"}
    path.write_text(json.dumps(json.loads(path.read_text()) | away))
    done = warm_command("final-test", folder=spent, patch=COUNT, code=0)
    assert "the test split was not opened again" in done.stdout
    assert n_looks(spent) == 0


@pytest.mark.usefixtures("reconfirmed")
def test_output_is_shown_on_a_terminal_without_unicode(mmsearch: Mmsearch) -> None:
    """A sign that a terminal does not have is no traceback after the one look."""
    done = mmsearch("confirm", "--top", 2, "--seeds", 2, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "\\xb1" in done.stdout


def test_mlflow_away_opens_nothing_and_still_tells(
    copied: Path, warm_command: Warm, other: int
) -> None:
    """A ledger that cannot be asked may say spent; what the others have recorded is still given."""
    away = ("--tracking-uri", "http://127.0.0.1:9")
    done = warm_command("final-test", *away, folder=copied, patch=COUNT, code=1)
    assert "127.0.0.1" in done.stderr
    assert n_looks(copied) == 0
    warm_command("final-test", folder=copied, code=0)
    done = warm_command("final-test", *away, folder=copied, patch=COUNT, code=0)
    assert "MLflow was not asked" in done.stderr
    warm_command("final-test", "--trial", other, *away, folder=copied, patch=COUNT, code=3)
    assert n_looks(copied) == 0


def test_study_in_use_is_refused(copied: Path, warm_command: Warm) -> None:
    """While a study is searched its choice is not made."""
    with own(Journal(copied / "runs/few")):
        done = warm_command("final-test", folder=copied, patch=COUNT)
    assert done.returncode == 3
    assert f"pid {os.getpid()} on " in done.stderr
    assert n_looks(copied) == 0


@pytest.mark.parametrize("harm", ["foreign", "missing"])
def test_weights_that_are_not_the_recorded_ones_are_refused(
    copied: Path, warm_command: Warm, best: int, other: int, harm: str
) -> None:
    """The hash names the model: nothing else is evaluated under its name, and nothing is spent."""
    journal = Journal(copied / "runs/few")
    path = journal.weights_path(best)
    if harm == "foreign":
        shutil.copy(journal.weights_path(other), path)
    else:
        path.unlink()
    done = warm_command("final-test", folder=copied, patch=COUNT, code=3)
    assert "not the recorded ones" in done.stderr
    assert n_looks(copied) == 0
    assert optuna_looks(places(copied)[0]) == []


@pytest.mark.parametrize("state", ["RUNNING", "PRUNED", "FAIL"])
def test_trial_that_is_not_complete_is_refused(
    copied: Path, warm_command: Warm, best: int, state: str
) -> None:
    """What was not trained to its end is no model: a slip in its number must not spend a look."""
    path = Journal(copied / "runs/few").trial_folder(best) / "outcome.json"
    if state == "RUNNING":
        path.unlink()
    else:
        path.write_text(json.dumps({"state": state, "reason": "", "ended_ms": 0}))
    done = warm_command("final-test", "--trial", best, folder=copied, patch=COUNT, code=3)
    assert f"trial {best} is {state}" in done.stderr
    assert n_looks(copied) == 0


def test_emptied_mlflow_gets_all_looks_back(spent: Path, warm_command: Warm, other: int) -> None:
    """Every look of the study and its champion are shown again, and nothing is opened."""
    again = ("final-test", "--trial", other, "--again", "a test of the ledger")
    warm_command(*again, folder=spent, code=0)
    forget(spent, "mlflow")
    warm_command("sync", folder=spent, patch=COUNT, code=0)
    uri = places(spent)[1]
    assert [run.info.status for run in mlflow_looks(uri)] == ["FINISHED"] * 2
    champion = MlflowClient(uri).get_model_version_by_alias("mmsearch-few", "champion")
    sha256 = Journal(spent / "runs/few").read(other).curve[-1].weights_sha256
    assert champion.tags["mmsearch.model_sha256"] == sha256
    assert n_looks(spent) == 0
