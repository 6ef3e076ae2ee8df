"""Weights survive the disk bit for bit, and foreign bytes are refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.model.averaging import State
from mmsearch.model.checkpoint import from_bytes, sha256, state_from_bytes, to_bytes
from mmsearch.model.mlp import Parameters, forward
from tests.support.specs import make_parameters

SHAPE = (5, 2, 4, 3)
WEIGHTS = make_parameters(*SHAPE)
CONTENT = to_bytes(WEIGHTS)


def bits(parameters: Parameters) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    """Return the bits of tensors, which tell NaN and signed zeros apart."""
    return {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes())
        for name, tensor in parameters.named().items()
    }


def with_header(header: object, n_bytes: int) -> bytes:
    """Write a safetensors file with a given header and zeros."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(n_bytes)


def assert_usable_or_refused(content: bytes) -> None:
    """Check that bytes are refused, or give parameters that can be computed with."""
    try:
        parameters = from_bytes(content)
    except InputError:
        return
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    logits = forward(parameters, torch.zeros(1, block_size, dtype=torch.int64))
    assert logits.shape == (1, parameters.C.shape[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_keeps_every_bit(dtype: torch.dtype) -> None:
    parameters = make_parameters(27, 10, 20, 3, dtype=dtype)
    parameters.b1[:4] = torch.tensor([torch.nan, torch.inf, -0.0, 1e-40], dtype=dtype)

    assert bits(from_bytes(to_bytes(parameters))) == bits(parameters)


def test_model_and_iterate_survive_together() -> None:
    iterate = make_parameters(*SHAPE, seed=1)
    content = to_bytes(State(WEIGHTS, iterate))

    state = state_from_bytes(content)

    assert state.iterate is not None
    assert (bits(state.parameters), bits(state.iterate)) == (bits(WEIGHTS), bits(iterate))
    assert bits(from_bytes(content)) == bits(WEIGHTS)
    assert state_from_bytes(CONTENT).iterate is None


def test_iterate_of_another_network_is_refused() -> None:
    own = WEIGHTS.named()
    for iterate in (
        {"C": WEIGHTS.C},
        {**own, "x": WEIGHTS.C},
        make_parameters(5, 2, 6, 3).named(),
        {name: tensor.double() for name, tensor in own.items()},
    ):
        tensors = own | {f"iterate.{name}": tensor.clone() for name, tensor in iterate.items()}
        with pytest.raises(InputError):
            state_from_bytes(safetensors.torch.save(tensors))


def test_equal_tensors_give_equal_bytes() -> None:
    transposed = WEIGHTS.map(lambda t: t.t().contiguous().t())
    assert not transposed.W1.is_contiguous()

    for same in (WEIGHTS.map(torch.clone), transposed, from_bytes(CONTENT)):
        assert to_bytes(same) == CONTENT


def test_one_changed_bit_changes_the_name() -> None:
    other = WEIGHTS.map(torch.clone)
    other.b2[0] = 0.0
    negative = other.map(torch.clone)
    negative.b2[0] = -0.0

    names = {sha256(to_bytes(weights)) for weights in (WEIGHTS, other, negative)}

    assert len(names) == 3
    assert sha256(CONTENT) == hashlib.sha256(CONTENT).hexdigest()


def test_bytes_are_a_json_header_and_plain_numbers() -> None:
    length = int.from_bytes(CONTENT[:8], "little")
    header = json.loads(CONTENT[8 : 8 + length])
    data = CONTENT[8 + length :]

    assert set(header) == {"C", "W1", "b1", "W2", "b2"}
    for name, tensor in WEIGHTS.named().items():
        begin, end = header[name]["data_offsets"]
        assert header[name] == {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        assert data[begin:end] == tensor.numpy().tobytes()


def test_pickles_are_refused() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(InputError):
            from_bytes(pickle.dumps(WEIGHTS.named(), protocol=protocol))


def changed(**tensors: Any) -> dict[str, torch.Tensor]:
    """Return the good tensors with some changed, or removed by None."""
    both = {**WEIGHTS.named(), **tensors}
    return {name: tensor for name, tensor in both.items() if tensor is not None}


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        changed(b2=None),
        changed(extra=torch.zeros(1)),
        changed(C=torch.zeros(6, 2)),
        changed(C=torch.zeros(5, 0)),
        changed(C=torch.zeros(5)),
        changed(W1=torch.zeros(5, 4)),
        changed(W1=torch.zeros(6, 2, 2)),
        changed(b1=torch.zeros(1, 4)),
        changed(W2=torch.zeros(5, 4)),
        {name: torch.zeros([]) for name in WEIGHTS.named()},
        {name: torch.zeros_like(t)[:0] for name, t in WEIGHTS.named().items()},
        changed(b2=torch.zeros(5, dtype=torch.float64)),
        {name: t.half() for name, t in WEIGHTS.named().items()},
    ],
)
def test_foreign_tensors_are_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError):
        from_bytes(safetensors.torch.save(tensors))


def test_odd_headers_are_refused() -> None:
    odd: list[tuple[str, list[int], int]] = [
        ("F4", [4], 2),
        ("F8_E8M0", [4], 4),
        ("Q7", [4], 4),
        ("F32", [0, 2**62, 4], 0),
        ("F32", [0, 2**63 + 5], 0),
        ("F32", [2**40, 2**40], 16),
        ("F32", [-1], 4),
    ]
    for dtype, shape, n_bytes in odd:
        header = {"C": {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}}
        with pytest.raises(InputError):
            from_bytes(with_header(header, n_bytes))


@given(content=st.binary(max_size=200))
@example(b"")
@example(bytes(8))
@example(b"\xff" * 8)
@example(with_header([], 0))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        from_bytes(content)


@given(length=st.integers(0, len(CONTENT) - 1), tail=st.binary(max_size=3))
def test_cut_off_bytes_are_refused(length: int, tail: bytes) -> None:
    for content in (CONTENT[:length] + tail, CONTENT + b"x" + tail):
        if len(content) != len(CONTENT):
            with pytest.raises(InputError):
                from_bytes(content)


@settings(deadline=None, max_examples=150)
@given(position=st.integers(0, len(CONTENT) - 1), mask=st.integers(1, 255))
def test_flipped_bits_are_refused_or_usable(position: int, mask: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= mask

    assert_usable_or_refused(bytes(damaged))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_rewritten_headers_are_refused_or_usable(data: st.DataObject) -> None:
    length = int.from_bytes(CONTENT[:8], "little")
    header = json.loads(CONTENT[8 : 8 + length])
    for name in data.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=3)):
        entry = header[name]
        entry["dtype"] = data.draw(st.sampled_from(["F32", "I32", "F16", "U8", "F64", "BOOL"]))
        entry["shape"] = data.draw(st.lists(st.integers(0, 8) | st.integers(-9, 2**70), max_size=3))

    assert_usable_or_refused(with_header(header, len(CONTENT) - 8 - length))
