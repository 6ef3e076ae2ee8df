"""Weights as safetensors bytes: no pickle is read or written (DESIGN promise 8)."""

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

_ITERATE = "iterate."
"""Stands before the names of the tensors that SGD goes on from."""


def to_bytes(parameters: Parameters, iterate: Parameters | None = None) -> bytes:
    """Serialise a model's five tensors under the article's names; equal tensors give equal bytes.

    Args:
        parameters: the model.
        iterate: where SGD goes on from, if that is not the model itself.
    """
    tensors = parameters.map(Tensor.contiguous).named()
    if iterate is not None:
        ahead = iterate.map(Tensor.contiguous).named()
        tensors |= {_ITERATE + name: tensor for name, tensor in ahead.items()}
    return safetensors.torch.save(tensors)


def from_bytes(content: bytes) -> Parameters:
    """Read the model of what `to_bytes` gave.

    Raises:
        InputError: not safetensors, or not this network's tensors and shapes.
    """
    return state_from_bytes(content).parameters


def state_from_bytes(content: bytes) -> State:
    """Read back all of what `to_bytes` gave.

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
    ahead = {name for name in tensors if name.startswith(_ITERATE)}
    if set(tensors) - ahead != set(names) or (ahead and ahead != {_ITERATE + n for n in names}):
        raise InputError(f"the weights hold {sorted(tensors)}, not {sorted(names)}")
    parameters = _checked(Parameters(**{name: tensors[name] for name in names}))
    if not ahead:
        return State(parameters)
    iterate = _checked(Parameters(**{name: tensors[_ITERATE + name] for name in names}))
    for name, tensor in iterate.named().items():
        model = parameters.named()[name]
        if (tensor.shape, tensor.dtype) != (model.shape, model.dtype):
            raise InputError(f"the weights do not fit together: {name} and {_ITERATE}{name}")
    return State(parameters, iterate)


def _checked(parameters: Parameters) -> Parameters:
    """Give back parameters whose shapes and dtypes make one network."""
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
