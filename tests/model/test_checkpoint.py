"""Checkpoints: weights keep every bit, and foreign or damaged bytes are refused."""

import hashlib
import json
import pickle
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.model.averaging import State
from mmsearch.model.checkpoint import from_bytes, sha256, state_from_bytes, to_bytes
from mmsearch.model.mlp import Parameters, forward
from tests.support.specs import make_parameters

SHAPE = (5, 2, 4, 3)
WEIGHTS = make_parameters(*SHAPE)
CONTENT = to_bytes(WEIGHTS)
N_HEADER = int.from_bytes(CONTENT[:8], "little")
HEADER = json.loads(CONTENT[8 : 8 + N_HEADER])
NUMBERS = CONTENT[8 + N_HEADER :]


def bits(parameters: Parameters) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    """Return the bits of tensors, which tell NaN and signed zeros apart."""
    return {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes())
        for name, tensor in parameters.named().items()
    }


def with_header(header: object, n_bytes: int) -> bytes:
    """Return a safetensors file with a given header and zeros."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(n_bytes)


def changed(**tensors: Any) -> bytes:
    """Return a file with some tensors changed, or removed by None."""
    both = {**WEIGHTS.named(), **tensors}
    return safetensors.torch.save({name: t for name, t in both.items() if t is not None})


def with_iterate(iterate: dict[str, torch.Tensor]) -> bytes:
    return changed(**{f"iterate.{name}": tensor.clone() for name, tensor in iterate.items()})


def assert_usable_or_refused(content: bytes) -> None:
    try:
        parameters = from_bytes(content)
    except InputError:
        return
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    logits = forward(parameters, torch.zeros(1, block_size, dtype=torch.int64))
    assert logits.shape == (1, parameters.C.shape[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_keeps_every_bit(dtype: torch.dtype) -> None:
    """A running trial has two sets of weights, of which `from_bytes` returns the model."""
    model = make_parameters(27, 10, 20, 3, dtype=dtype)
    model.b1[:4] = torch.tensor([torch.nan, torch.inf, -0.0, 1e-40], dtype=dtype)
    iterate = make_parameters(27, 10, 20, 3, dtype=dtype, seed=1)
    content = to_bytes(State(model, iterate))

    state = state_from_bytes(content)

    assert state.iterate is not None
    assert (bits(state.parameters), bits(state.iterate)) == (bits(model), bits(iterate))
    assert bits(from_bytes(content)) == bits(from_bytes(to_bytes(model))) == bits(model)
    assert state_from_bytes(to_bytes(model)).iterate is None


def test_weights_are_named_by_the_hash_of_their_numbers() -> None:
    """Equal tensors have one name in any memory layout; the sign of a zero makes another."""
    transposed = WEIGHTS.map(lambda t: t.t().contiguous().t())
    assert not transposed.W1.is_contiguous()
    for same in (WEIGHTS.map(torch.clone), transposed, from_bytes(CONTENT)):
        assert to_bytes(same) == CONTENT
    zero, negative = WEIGHTS.map(torch.clone), WEIGHTS.map(torch.clone)
    zero.b2[0], negative.b2[0] = 0.0, -0.0

    names = {sha256(to_bytes(weights)) for weights in (WEIGHTS, zero, negative)}

    assert len(names) == 3
    assert hashlib.sha256(CONTENT).hexdigest() in names


def test_file_is_a_json_header_and_plain_numbers() -> None:
    """Reading weights runs no code."""
    assert set(HEADER) == {"C", "W1", "b1", "W2", "b2"}
    for name, tensor in WEIGHTS.named().items():
        entry = HEADER[name]
        begin, end = entry["data_offsets"]
        assert (entry["dtype"], entry["shape"]) == ("F32", list(tensor.shape))
        assert NUMBERS[begin:end] == tensor.numpy().tobytes()


REFUSED = {
    **{f"pickle {n}": pickle.dumps(WEIGHTS.named(), n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "empty": b"",
    "zeros": bytes(8),
    "ones": b"\xff" * 8,
    "header is a list": with_header([], 0),
    "no tensors": safetensors.torch.save({}),
    "tensor missing": changed(b2=None),
    "tensor too many": changed(extra=torch.zeros(1)),
    "scalars": changed(**{name: torch.zeros([]) for name in WEIGHTS.named()}),
    "no rows": changed(**{name: torch.zeros_like(t)[:0] for name, t in WEIGHTS.named().items()}),
    **{
        f"{name} of shape {shape}": changed(**{name: torch.zeros(shape)})
        for name, shape in (
            ("C", (6, 2)), ("C", (5, 0)), ("C", (5,)), ("W1", (5, 4)), ("W1", (6, 2, 2)),
            ("b1", (1, 4)), ("W2", (5, 4)),
        )
    },
    "two dtypes": changed(b2=torch.zeros(5, dtype=torch.float64)),
    "half precision": changed(**{name: t.half() for name, t in WEIGHTS.named().items()}),
    # Types that PyTorch lacks, and shapes that overflow.
    **{
        f"{dtype} {shape}": with_header(
            {"C": {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}}, n_bytes
        )
        for dtype, shape, n_bytes in (
            ("F4", [4], 2), ("F8_E8M0", [4], 4), ("Q7", [4], 4), ("F32", [0, 2**62, 4], 0),
            ("F32", [0, 2**63 + 5], 0), ("F32", [2**40, 2**40], 16), ("F32", [-1], 4),
        )
    },
    "half an iterate": with_iterate({"C": WEIGHTS.C}),
    "iterate of more": with_iterate({**WEIGHTS.named(), "x": WEIGHTS.C}),
    "iterate of other sizes": with_iterate(make_parameters(5, 2, 6, 3).named()),
    "iterate of another dtype": with_iterate(WEIGHTS.map(torch.Tensor.double).named()),
}  # fmt: skip
"""Files that are no checkpoint of this network."""


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_is_no_checkpoint_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        from_bytes(content)


@given(noise=st.binary(max_size=200), length=st.integers(0, len(CONTENT) - 1))
def test_random_cut_and_extended_bytes_are_refused(noise: bytes, length: int) -> None:
    for content in (noise, CONTENT[:length], CONTENT[:length] + noise, CONTENT + b"x" + noise):
        if content != CONTENT and len(content) != len(CONTENT):
            with pytest.raises(InputError):
                from_bytes(content)


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_checkpoint_is_refused_or_usable(data: st.DataObject) -> None:
    """Neither a flipped bit nor a rewritten header fails later, in a matrix product."""
    if data.draw(st.booleans()):
        damaged = bytearray(CONTENT)
        damaged[data.draw(st.integers(0, len(CONTENT) - 1))] ^= data.draw(st.integers(1, 255))
        assert_usable_or_refused(bytes(damaged))
        return
    header = {name: dict(entry) for name, entry in HEADER.items()}
    for name in data.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=3)):
        entry = header[name]
        entry["dtype"] = data.draw(st.sampled_from(["F32", "I32", "F16", "U8", "F64", "BOOL"]))
        entry["shape"] = data.draw(st.lists(st.integers(0, 8) | st.integers(-9, 2**70), max_size=3))
    assert_usable_or_refused(with_header(header, len(NUMBERS)))
