"""Export of a model as three files that need neither mmsearch nor MLflow."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mmsearch.model.spec import TrialSpec


def write_model(folder: Path, spec: TrialSpec, weights: bytes, characters: Sequence[str]) -> None:
    """Write a model into a folder that is new or empty.

        weights.safetensors   C, W1, b1, W2, b2
        spec.json             hyperparameters, seed and number of steps
        vocabulary.json       characters, in the order of their ids

    Raises:
        InputError: the folder is not empty, or is a file.
        MMSearchError: it cannot be written.
    """
    with new_folder(folder):
        (folder / "weights.safetensors").write_bytes(weights)
        for name, value in (
            ("spec", spec.to_json()),
            ("vocabulary", list(characters)),
        ):
            text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder, or take an empty one, and write into it.

    Raises:
        InputError: the folder is not empty, or is a file.
        MMSearchError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{str(folder)!r} is not empty; choose a new folder")
        yield
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{str(folder)!r} is a file; choose a new folder") from None
    except OSError as error:
        raise MMSearchError(f"{str(folder)!r} cannot be written: {error.strerror}") from error
