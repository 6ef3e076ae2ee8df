"""Checkpoints as safetensors bytes; no pickle is read or written."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mmsearch.errors import InputError
from mmsearch.model.averaging import State
from mmsearch.model.mlp import Parameters

_PARTS = ("iterate.", "mean.", "moment_1.", "moment_2.")
"""Prefixes of the tensors that training continues from, in the order of `State`."""


def to_bytes(state: State | Parameters) -> bytes:
    """Serialize a model and the state of its training; equal tensors give equal bytes.

    The model's tensors are named C, W1, b1, W2 and b2; those of its training have a prefix.
    """
    if not isinstance(state, State):
        state = State(state)
    tensors = state.parameters.map(Tensor.contiguous).named()
    parts = (state.iterate, state.mean, *(state.moments or ()))
    for prefix, part in zip(_PARTS, parts, strict=False):
        if part is not None:
            named = part.map(Tensor.contiguous).named()
            tensors |= {prefix + name: tensor for name, tensor in named.items()}
    return safetensors.torch.save(tensors)


def from_bytes(content: bytes) -> Parameters:
    """Return the model of a checkpoint.

    Raises:
        InputError: it is not safetensors, or not a checkpoint of this network.
    """
    return state_from_bytes(content).parameters


def state_from_bytes(content: bytes) -> State:
    """Return the state that `to_bytes` serialized.

    Raises:
        InputError: it is not safetensors, or not a checkpoint of this network.
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
    held = sorted(tensors)
    parameters = _take(tensors, "")
    if parameters is None:
        raise InputError(f"the weights hold {held}, not {sorted(_NAMES)}")
    parts = [_take(tensors, prefix) for prefix in _PARTS]
    iterate, mean, first, second = parts
    if tensors or (first is None) != (second is None):
        raise InputError(f"the weights hold {held}: not one network and its training")
    for prefix, part in zip(_PARTS, parts, strict=True):
        for name, tensor in part.named().items() if part else ():
            model = parameters.named()[name]
            if (tensor.shape, tensor.dtype) != (model.shape, model.dtype):
                raise InputError(f"the weights do not fit together: {name} and {prefix}{name}")
    moments = None if first is None or second is None else (first, second)
    return State(parameters, iterate, mean, moments)


_NAMES = [field.name for field in fields(Parameters)]


def _take(tensors: dict[str, Tensor], prefix: str) -> Parameters | None:
    """Remove and return the five tensors of one prefix; None if one is missing."""
    if not all(prefix + name in tensors for name in _NAMES):
        return None
    return _checked(Parameters(**{name: tensors.pop(prefix + name) for name in _NAMES}))


def _checked(parameters: Parameters) -> Parameters:
    """Return the parameters if their shapes and dtypes fit together."""
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
    """Return the SHA-256 of a checkpoint, in hex, by which its weights are named."""
    return hashlib.sha256(content).hexdigest()
