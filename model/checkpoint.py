"""Weights as safetensors bytes: no pickle is read or written (DESIGN promise 8)."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mmsearch.errors import InputError
from mmsearch.model.mlp import Parameters


def to_bytes(parameters: Parameters) -> bytes:
    """Serialise the five tensors under the article's names; equal tensors give equal bytes."""
    return safetensors.torch.save(parameters.map(Tensor.contiguous).named())


def from_bytes(content: bytes) -> Parameters:
    """Read back what `to_bytes` gave.

    Raises:
        InputError: not safetensors, or not this network's tensors and shapes.
    """
    try:
        tensors = safetensors.torch.load(content)
    except (
        SafetensorError,
        KeyError,  # a dtype that PyTorch lacks
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(f"the weights cannot be read: {error}") from error
    names = [field.name for field in fields(Parameters)]
    if set(tensors) != set(names):
        raise InputError(f"the weights hold {sorted(tensors)}, not {sorted(names)}")
    parameters = Parameters(**{name: tensors[name] for name in names})
    shapes = {name: tuple(tensor.shape) for name, tensor in parameters.named().items()}
    vocab_size, hidden_width = shapes["b2"], shapes["b1"]
    fits = (
        shapes["C"][:1] == vocab_size
        and shapes["W1"][1:] == hidden_width
        and shapes["W2"] == hidden_width + vocab_size
        and len(shapes["C"]) == len(shapes["W1"]) == len(shapes["W2"]) == 2  # noqa: PLR2004 (matrices)
        and all(size > 0 for shape in shapes.values() for size in shape)
        and shapes["W1"][0] % shapes["C"][1] == 0
    )
    if not fits:
        raise InputError(f"the weights do not fit together: {shapes}")
    dtypes = {tensor.dtype for tensor in parameters.named().values()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        raise InputError(f"the weights are not all float32 or all float64: {dtypes}")
    return parameters


def sha256(content: bytes) -> str:
    """Name a set of weights: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(content).hexdigest()
