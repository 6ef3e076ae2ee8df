"""What `--json` prints, command by command: held to by a test, and written out for the docs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "true or false": (bool,),
    "whole number": (int,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
    "null": (type(None),),
}
"""Names of JSON values, as Python reads them."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an object."""

    name: str
    kind: str
    """Of `KINDS`, with ` or null` where it may be missing."""
    meaning: str

    def admits(self, value: object) -> bool:
        """Tell whether a value is of the kind."""
        kind = self.kind.removesuffix(" or null")
        kinds = KINDS[kind] + (KINDS["null"] if kind != self.kind else ())
        return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


_STUDY = Key("study", "text", "name of the study")
_TRIAL = Key("trial", "whole number", "the trial's number")
_SPEC = Key("spec", "object", "hyperparameters and all else that its training is fixed by")
_DEV = Key("dev_loss", "number or null", "nats per character, on dev")
TRIAL = (
    _TRIAL,
    Key("state", "text", "COMPLETE, PRUNED, RUNNING or FAIL"),
    Key("reason", "text", "why it failed or was pruned; else empty"),
    _DEV,
    Key("train_loss", "number or null", "of the same weights, on a part of train as large as dev"),
    Key("dev_loss_in_train", "number or null", "on dev words that also stand in train"),
    Key("dev_loss_not_in_train", "number or null", "on the other dev words"),
    Key("scored_step", "whole number or null", "SGD steps of the weights that these losses are of"),
    Key("best_dev_loss", "number or null", "lowest at any evaluation so far"),
    Key("best_step", "whole number or null", "SGD steps until then"),
    Key("step", "whole number", "SGD steps done"),
    Key("n_parameters", "whole number", "numbers in the model"),
    Key("wall_s", "number", "seconds of training"),
    _SPEC,
)
_LOSSES = (
    Key("test_loss", "number", "nats per character, on test"),
    Key("test_loss_low", "number", "lower end of its 95 % interval"),
    Key("test_loss_high", "number", "upper end"),
    Key("test_bits_per_char", "number", "the test loss in bits"),
    Key("test_perplexity", "number", "its exponential"),
    _DEV,
    Key("dev_loss_mean", "number or null", "mean over the seeds of its confirmation"),
    Key("dev_loss_sd", "number or null", "and their standard deviation"),
    Key("uniform_loss", "number", "of a model that knows nothing"),
    Key("bigram_loss", "number", "of bigram counts"),
    Key("ngram_loss", "number or null", "of a Witten-Bell n-gram; null in results of version 0.1"),
    Key("ngram_order", "whole number or null", "its context length, chosen on dev"),
    Key("ngram_strength", "number or null", "weight of its shorter contexts, likewise"),
    Key("n_test_words", "whole number", "words of the test split"),
    Key("n_test_characters", "whole number", "characters with the words' ends"),
    Key("n_test_words_in_train", "whole number", "test words that also stand in train"),
)
_ADVICE = (
    Key(
        "baselines",
        "object or null",
        "dev losses `uniform`, `bigram` and `ngram`, with `ngram_order` and `ngram_strength`",
    ),
    Key("warnings", "list", "sentences: what to be wary of, each with the next step"),
)
SHAPES: Mapping[str, tuple[Key, ...]] = {
    "run": (
        _STUDY,
        Key("n_trials", "whole number", "finished trials that were asked for"),
        Key("n_finished", "whole number", "finished trials that there are"),
        Key("is_interrupted", "true or false", "whether it was ended by Ctrl-C, SIGTERM or SIGHUP"),
        Key("n_complete", "whole number", "trials trained to their end"),
        Key("n_pruned", "whole number", "trials ended early"),
        Key("n_failed", "whole number", "trials that diverged or crashed"),
        Key("wall_s", "number", "seconds of this command's search"),
        Key("best", "object or null", "the best trial, as of `trials`"),
        *_ADVICE,
        Key(
            "optimism", "object", "nats: `choice` and, within the best trial, `evaluation`; or null"
        ),
    ),
    "trials": TRIAL,
    "confirm": (
        Key("top", "whole number", "candidates that were asked for"),
        Key("trials", "list", "their numbers, best of the search first"),
        Key("n_seeds", "whole number", "fresh seeds for each"),
        Key("steps", "whole number", "SGD steps of a training"),
        Key("n_missing", "whole number", "trainings still to do"),
        Key("candidates", "list", "objects, best mean first"),
        Key("flattery", "number or null", "nats by which the search's winner flattered itself"),
        Key("lead", "number or null", "nats from the best mean to the next"),
        Key("lead_standard_error", "number or null", "of the lead"),
        Key(
            "lead_may_be_chance",
            "true or false or null",
            "whether a 95 % interval of it holds 0 (Student's t over the seeds)",
        ),
        Key("chosen", "object or null", "trial, nth_seed and dev_loss of the chosen model"),
        *_ADVICE,
    ),
    "final-test": (
        Key("is_recorded", "true or false", "whether the number is an earlier look's"),
        Key("id", "text", "of the look"),
        Key("look", "whole number", "its number among the looks at this split"),
        Key("split", "text", "fingerprint of the split"),
        Key("model_sha256", "text", "fingerprint of the weights"),
        Key("model", "text", "which model, in words"),
        _STUDY,
        Key("study_id", "text", "what tells studies of one name apart"),
        Key("reason", "text or null", "why the split was looked at again"),
        Key("claimed_ms", "whole number", "when the look was claimed, in ms since 1970"),
        Key("host", "text", "the machine"),
        *_LOSSES,
        Key("anyway", "true or false", "whether it does not beat bigram counts on dev"),
        Key("why", "text", "why this model"),
        _SPEC,
        Key("tested_ms", "whole number", "when it was tested, in ms since 1970"),
        Key("looks", "list", "every look at this split that is known, this one too"),
    ),
    "sample": (
        _TRIAL,
        Key("model", "text", "which model, in words"),
        Key("state", "text", "the trial's"),
        _DEV,
        Key("note", "text", "what should be known of the choice; else empty"),
        Key("words", "list", "objects with word, in_train and is_cut"),
    ),
    "replay": (
        Key("model", "text", "which model, in words"),
        _TRIAL,
        _DEV,
        Key("is_reproduced", "true or false", "whether it came out the same, or near enough"),
        Key("is_identical", "true or false", "whether bit for bit"),
        Key("compared", "text", "what was held against the record"),
        Key("changed", "object", "versions or hardware that differ from the record's"),
        Key("n_segments", "whole number", "evaluations on record"),
        Key("n_equal_segments", "whole number", "evaluations that came out equal"),
        Key("max_gap_nats", "number or null", "largest difference of a dev loss"),
        Key("parting_step", "whole number or null", "step at which they part"),
        Key("recorded_end", "text", "how the trial ended"),
        Key("end", "text", "how it ended now"),
    ),
    "export": (
        _STUDY,
        Key("folder", "text", "where the model is"),
        Key("model", "text", "which model, in words"),
        _TRIAL,
        Key("why", "text", "why this model"),
        Key("note", "text", "what should be known of the choice; else empty"),
    ),
    "report": (_STUDY, Key("file", "text", "the page")),
    "init": (Key("file", "text", "the config file"),),
    "lr-range": (
        Key("hyperparameters", "object", "of the model that was trained"),
        Key("n_steps", "whole number", "SGD steps of a training"),
        Key("n_seeds", "whole number", "trainings"),
        Key("start_loss", "number or null", "nats per character at the first rate"),
        Key("best_loss", "number or null", "lowest of the smoothed curve"),
        Key("best_learning_rate", "number or null", "where it is"),
        Key("suggested", "object or null", "low and high of the range"),
        Key("curve", "list", "objects with learning_rate and loss"),
    ),
    "corpus": (
        Key("corpus", "text", "its name"),
        Key("lines", "whole number", "lines read"),
        Key("repeats", "whole number", "words that stood there before"),
        Key("repeats_kept", "true or false", "whether they stay"),
        Key("words", "whole number", "words in use"),
        Key("train", "whole number", "words to train on"),
        Key("dev", "whole number", "words to choose by"),
        Key("test", "whole number", "words for the one look"),
        Key("dev_words_in_train", "whole number", "dev words that also stand in train"),
        Key("test_words_in_train", "whole number", "likewise of test"),
        Key("vocabulary", "text", "its characters, in order"),
        Key("fingerprint", "text", "SHA-256 of the words"),
        Key("split_fingerprint", "text", "of the split"),
        Key("looks", "whole number", "looks at the test split that are known"),
    ),
    "sync": (_STUDY, Key("n_sent", "whole number", "trials that MLflow lacked")),
    "ui": (
        _STUDY,
        Key("leaderboard", "text", "link to the table"),
        Key("charts", "text", "link to the charts"),
        Key("summary", "text", "link to the study's own page"),
        Key("confirmed", "text or null", "link to the means over fresh seeds; null before"),
        Key("plain", "text", "link to the trials without MLflow's saved view, should it fail"),
    ),
}
"""The keys of what each command prints with --json; `trials` prints a list of such objects."""


def reference() -> str:
    """Write the page of the docs: every command's keys."""
    lines = [
        "# What `--json` prints",
        "",
        "One JSON value on standard output and nothing else; news, warnings and errors are text on",
        "standard error, and the exit code is the same as without `--json`. After an error nothing",
        "stands on standard output. It is strict JSON in ASCII: what is not finite is null. Keys",
        "may be added; that one goes or means something else, the change log says.",
        "",
        "`trials` prints a list, best first; every other command prints an object. `trials --watch",
        "--json` prints one line for each trial that has ended. `ui --json` prints its links once",
        "the server answers, and then serves until Ctrl-C.",
        "",
        "This page is written by the code, and a test holds it to what the commands print.",
    ]
    for command, keys in SHAPES.items():
        lines += ["", f"## `mmsearch {command} --json`", "", "| key | value | meaning |"]
        lines += ["|---|---|---|"]
        lines += [f"| `{key.name}` | {key.kind} | {key.meaning} |" for key in keys]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
