"""mmsearch: hyperparameter search for character-level MLP language models, with an honest record.

For notebooks, this package offers the objects of the command line; docs/api.md describes them:

- words: `read_corpus`, `split_corpus`, `build_contexts`, `BUILTIN_CORPUS`;
- networks: `make_spec`, `TrialSpec`, `train`, `Model`, `Evaluation`;
- studies: `load_study`, `Study`;
- errors: `MMSearchError`, `InputError`, `RefusedError`.

Each is imported when it is first used: importing this package loads none of them.

The four rooms stand at the top of the repository and are linked in here, so that `mmsearch` is
the only name that lands in anybody's site-packages: `mmsearch.data`, `mmsearch.model`,
`mmsearch.tracking` and `mmsearch.search`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsearch.api import Evaluation, Model, Study, load_study, make_spec, train
    from mmsearch.data.contexts import build_contexts
    from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
    from mmsearch.data.split import split_corpus
    from mmsearch.errors import InputError, MMSearchError, RefusedError
    from mmsearch.model.spec import TrialSpec

_HOMES = {
    "api": ("Evaluation", "Model", "Study", "load_study", "make_spec", "train"),
    "data.contexts": ("build_contexts",),
    "data.corpus": ("BUILTIN_CORPUS", "read_corpus"),
    "data.split": ("split_corpus",),
    "errors": ("InputError", "MMSearchError", "RefusedError"),
    "model.spec": ("TrialSpec",),
}

__all__ = [
    "BUILTIN_CORPUS",
    "Evaluation",
    "InputError",
    "MMSearchError",
    "Model",
    "RefusedError",
    "Study",
    "TrialSpec",
    "build_contexts",
    "load_study",
    "make_spec",
    "read_corpus",
    "split_corpus",
    "train",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
