"""The plain peer: the same search as people write it from Optuna's and MLflow's tutorials.

`bench/search.py` starts it, and compares `mmsearch run` with it, so it is meant to be a good script
of its kind: one process, SQLite for Optuna and MLflow, a nested run for each trial,
`mlflow.log_metric` every 100 steps, two figures for each trial. A trial is the article's training
loop with an enqueued configuration; the dev split is evaluated and reported 20 times a trial.

torch chooses its own number of threads. On two idle cores that was faster by up to 1.4 times; on
busy ones it was 2 to 30 times slower, so give it `--threads 1` there.

Words are shuffled and cut as in the article; repeated ones are dropped unless `--keep-duplicates`.
The study's user attributes say which words they were.
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import optuna
import torch
from torch import Tensor
from torch.nn import functional

N_EVALUATIONS = 20


def read_words(corpus: Path, *, keep_duplicates: bool) -> tuple[list[str], list[str], list[str]]:
    """Return the characters, the train words and the dev words."""
    words = corpus.read_text("utf-8").split("\n")
    words = [word.strip() for word in words if word.strip()]
    if not keep_duplicates:
        words = list(dict.fromkeys(words))
    characters = [".", *sorted(set("".join(words)))]
    random.Random(42).shuffle(words)  # noqa: S311 (an order, not a secret)
    n1 = int(0.8 * len(words))
    n2 = int(0.9 * len(words))
    return characters, words[:n1], words[n1:n2]


def build_dataset(
    words: list[str], characters: list[str], block_size: int
) -> tuple[Tensor, Tensor]:
    """Make contexts (N, block_size) and their next characters (N,), as in the article."""
    stoi = {ch: i for i, ch in enumerate(characters)}
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = context[1:] + [ix]  # noqa: RUF005 (the article's line)
    return torch.tensor(X), torch.tensor(Y)


def loss_of(parameters: list[Tensor], X: Tensor, Y: Tensor) -> Tensor:
    """Score the next characters, in nats per character."""
    C, W1, b1, W2, b2 = parameters
    emb = C[X]
    h = torch.tanh(emb.view(emb.shape[0], -1) @ W1 + b1)
    logits = h @ W2 + b2
    return functional.cross_entropy(logits, Y)


def log_figures(curves: dict[str, list[tuple[int, float]]], C: Tensor, itos: list[str]) -> None:
    """Log figures of a trial's losses and its embedding."""
    figure, axes = plt.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    mlflow.log_figure(figure, "loss.png")
    plt.close(figure)
    figure, axes = plt.subplots(figsize=(8, 8))
    axes.scatter(C[:, 0].tolist(), C[:, 1].tolist(), s=200)
    for i, ch in enumerate(itos):
        axes.text(C[i, 0].item(), C[i, 1].item(), ch, ha="center", va="center", color="white")
    axes.grid(visible=True)
    mlflow.log_figure(figure, "embedding.png")
    plt.close(figure)


def objective(
    trial: optuna.Trial,
    arguments: argparse.Namespace,
    words: tuple[list[str], list[str], list[str]],
) -> float:
    """Train and score one trial."""
    embedding_dim = trial.suggest_int("embedding_dim", 2, 48, log=True)
    hidden_width = trial.suggest_int("hidden_width", 32, 512, log=True)
    block_size = trial.suggest_int("block_size", 2, 10)
    learning_rate = trial.suggest_float("learning_rate", 1e-2, 1.0, log=True)

    characters, train_words, dev_words = words
    Xtr, Ytr = build_dataset(train_words, characters, block_size)
    Xdev, Ydev = build_dataset(dev_words, characters, block_size)
    C = torch.randn(len(characters), embedding_dim)
    W1 = torch.randn(block_size * embedding_dim, hidden_width)
    b1 = torch.randn(hidden_width)
    W2 = torch.randn(hidden_width, len(characters))
    b2 = torch.randn(len(characters))
    parameters = [C, W1, b1, W2, b2]
    for p in parameters:
        p.requires_grad = True

    curves: dict[str, list[tuple[int, float]]] = {"train": [], "dev": []}
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        mlflow.log_params(trial.params)
        for step in range(1, arguments.steps + 1):
            ix = torch.randint(0, Xtr.shape[0], (32,))
            loss = loss_of(parameters, Xtr[ix], Ytr[ix])
            for p in parameters:
                p.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            lr = learning_rate if step <= arguments.steps // 2 else learning_rate / 10
            for p in parameters:
                p.data += -lr * p.grad  # type: ignore[operator]  # backward made it
            if step % 100 == 0:
                curves["train"].append((step, loss.item()))
                mlflow.log_metric("train_loss", loss.item(), step=step)
            if step % (arguments.steps // N_EVALUATIONS) == 0:
                with torch.no_grad():
                    dev_loss = loss_of(parameters, Xdev, Ydev).item()
                curves["dev"].append((step, dev_loss))
                mlflow.log_metric("dev_loss", dev_loss, step=step)
                trial.report(dev_loss, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
        log_figures(curves, C.detach(), characters)
    return dev_loss


def search(arguments: argparse.Namespace) -> None:
    """Run the study."""
    folder = arguments.folder.resolve()
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    words = read_words(arguments.corpus, keep_duplicates=arguments.keep_duplicates)
    dev_sha256 = hashlib.sha256("\n".join(words[2]).encode()).hexdigest()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    artifacts = (folder / "artifacts").as_uri()
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("peer", artifact_location=artifacts)
    )
    study = optuna.create_study(
        study_name="peer",
        storage=f"sqlite:///{folder}/optuna.db",
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.NopPruner(),
    )
    study.set_user_attr("n_train", len(words[1]))
    study.set_user_attr("dev_sha256", dev_sha256)
    points = json.loads(arguments.enqueue.read_text("utf-8"))
    for point in points:
        study.enqueue_trial(point)
    with mlflow.start_run(run_name="study"):
        study.optimize(lambda trial: objective(trial, arguments, words), n_trials=len(points))
        mlflow.log_params(study.best_params)
        mlflow.log_metric("best_dev_loss", study.best_value)


def main() -> None:
    """Read the command line and search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument("--steps", type=int, required=True, help="of each trial, a multiple of 20")
    parser.add_argument("--corpus", type=Path, required=True, help="one word per line")
    parser.add_argument("--keep-duplicates", action="store_true", help="as the article does")
    parser.add_argument("--enqueue", type=Path, required=True, help="JSON list of configurations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.steps % N_EVALUATIONS:
        parser.error(f"--steps must be a multiple of {N_EVALUATIONS}, got {arguments.steps}")
    search(arguments)


if __name__ == "__main__":
    main()
