"""The training step of SGD and Adam, with hand-written gradients in place of autograd.

At these sizes autograd costs more than the arithmetic. The step below allocates nothing and fuses
each SGD update into the matrix product of its gradient. Tests compare it with autograd and
`torch.optim`.

Shape suffixes as in `mlp`; S is the number of steps of one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from torch.optim.adamw import adamw

from mmsearch.model.mlp import Parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mmsearch.model.minibatches import Minibatches
    from mmsearch.model.spec import Optimizer

BETAS = (0.9, 0.999)
"""Decay of Adam's two moments (Kingma and Ba, 2015)."""
EPSILON = 1e-8
"""Added to the root of Adam's second moment."""
_ALIGNMENT = 16
"""Alignment of each tensor in the vector, in numbers, for fast vector instructions."""


class Kernel:
    """Takes optimizer steps on its own copy of the parameters, in their dtype, on the CPU.

    All parameters are in one vector, `flat`, and so are their mean and Adam's moments, so that each
    is updated by one operation. `pack` and `unpack` convert between the two forms.

    If the vocabulary is small relative to the batch, the first layer is a table of what each
    character at each position adds to the hidden layer. W1 is stored in the order in which its
    three products are fastest: (T, H, D) for a table, else transposed if it has more columns than
    rows.

    Not thread-safe.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        batch_size: int,
        weight_decay: float = 0.0,
        optimizer: Optimizer = "sgd",
        has_table: bool | None = None,
    ) -> None:
        """Copy parameters and allocate the buffers.

        Args:
            parameters: the parameters that training starts or continues from.
            batch_size: B.
            weight_decay: decay of the three matrices, multiplied by the learning rate.
            optimizer: the optimizer.
            has_table: whether the first layer is a table; None to decide by the cost.
        """
        self._like = parameters
        vocab_size, dim = parameters.C.shape
        n_inputs, hidden_width = parameters.W1.shape
        self._block_size = n_inputs // dim
        self._batch_size = batch_size
        self._weight_decay = weight_decay
        if has_table is None:
            in_table = 2 * batch_size * vocab_size + 3 * vocab_size * dim
            has_table = in_table < 3 * batch_size * dim
        self._has_table = has_table
        self._is_transposed = not has_table and n_inputs < hidden_width
        self._n_matrices, self._size, self._places = _layout(parameters)
        self.flat = self.pack(parameters)
        """All parameters; changed in place by `steps`."""
        self._learnt = self._views(self.flat)
        self.moments: tuple[Tensor, Tensor] | None = None
        """Adam's first and second moment, in the layout of `flat`; None with SGD."""
        self.n_done = 0
        """Number of steps in Adam's moments."""
        self._gradient: Tensor | None = None
        self._into = self._learnt
        if optimizer == "adam":
            self.moments = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
            self._gradient = torch.zeros_like(self.flat)
            self._into = self._views(self._gradient)
        new = parameters.C.new_empty
        if has_table:
            self._table_VQ = new(vocab_size, self._block_size * hidden_width)
            self._d_C_VD = new(vocab_size, dim)
        else:
            self._emb_BK = new(batch_size, n_inputs)
            self._d_emb_BK = new(batch_size, n_inputs)
        self._h_BH = new(batch_size, hidden_width)
        self._d_h_BH = new(batch_size, hidden_width)
        self._logits_BV = new(batch_size, vocab_size)
        self._p_BV = new(batch_size, vocab_size)
        self._ones_B = new(batch_size).fill_(1)
        self._minus_one = new(()).fill_(-1)
        # Views that every step needs; creating one takes as long as a small product.
        _, W1, _, W2, _ = self._learnt
        self._W1_t, self._W2_t = W1.t(), W2.t()
        self._h_t, self._d_h_t, self._p_t = self._h_BH.t(), self._d_h_BH.t(), self._p_BV.t()
        self._p_flat = self._p_BV.view(-1)
        if not has_table:
            self._emb_flat = self._emb_BK.view(-1, dim)
            self._d_emb_flat = self._d_emb_BK.view(-1, dim)
            self._emb_t = self._emb_BK.t()

    @property
    def parameters(self) -> Parameters:
        """A copy of the current parameters."""
        return self.unpack(self.flat)

    def pack(self, parameters: Parameters) -> Tensor:
        """Copy parameters, or tensors of their shapes, into a vector."""
        flat = self._like.C.new_zeros(self._size)
        for view, tensor in zip(
            self._views(flat), self._arranged(parameters).named().values(), strict=True
        ):
            view.copy_(tensor)
        return flat

    def unpack(self, flat: Tensor) -> Parameters:
        """Copy a vector into tensors of the article's shapes."""
        found = Parameters(*self._views(flat))
        if self._has_table:
            shape = self._block_size, self._like.W1.shape[1], self._like.C.shape[1]
            W1 = found.W1.view(shape).transpose(1, 2).reshape(self._like.W1.shape)
            found = Parameters(found.C, W1, found.b1, found.W2, found.b2)
        return found.map(lambda tensor: tensor.clone(memory_format=torch.contiguous_format))

    @torch.inference_mode()
    def steps(self, drawn: Minibatches, learning_rates: Sequence[float]) -> Tensor:
        """Take one step for each minibatch.

        Args:
            drawn: S minibatches of B contexts.
            learning_rates: learning rate of each step.

        Returns:
            Mean loss of each minibatch before its step's update, in nats, shape (S,).
        """
        log_p = self.flat.new_empty(len(drawn.weights))
        inputs = drawn.inputs.long()
        pieces = drawn.sizes.tolist()
        rows = zip(
            self._gathers(inputs) if self._has_table else self._ids(inputs),
            _split(drawn.positions, pieces),
            _split(drawn.weights.to(self.flat.dtype).neg(), pieces),
            _split(log_p, pieces),
            learning_rates,
            strict=True,
        )
        step: Any = self._table_step if self._has_table else self._dense_step
        for contexts, positions, minus_weights, log_p_step, learning_rate in rows:
            targets = positions, minus_weights, log_p_step
            if self._gradient is not None:
                step(contexts, targets, 1 / self._batch_size, 0.0, 0.0)
                self._adam_step(learning_rate)
            else:
                keep = 1 - learning_rate * self._weight_decay
                step(contexts, targets, -learning_rate / self._batch_size, keep, 1.0)
        steps_of_pairs = torch.repeat_interleave(drawn.sizes)
        summed = torch.zeros(len(pieces), dtype=self.flat.dtype)
        summed.index_add_(0, steps_of_pairs, log_p * drawn.weights.to(log_p.dtype), alpha=-1)
        return summed / self._batch_size

    def _ids(self, inputs_SBT: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each step's ids as a vector, and expanded to the embedding dimensions."""
        ids = inputs_SBT.reshape(len(inputs_SBT), -1)
        dim = self._like.C.shape[1]
        return list(zip(ids.unbind(), ids.unsqueeze(2).expand(-1, -1, dim).unbind(), strict=True))

    def _dense_step(
        self,
        ids: tuple[Tensor, Tensor],
        targets: tuple[Tensor, Tensor, Tensor],
        scale: float,
        keep: float,
        keep_bias: float,
    ) -> None:
        """Run one step forward and backward.

        Args:
            ids: ids of the contexts, as returned by `_ids`.
            targets: positions in the logits, their negated weights, and the output for log p.
            scale: factor of the gradient of the summed loss.
            keep: factor of a matrix's old value, to which the gradient is added.
            keep_bias: factor of a bias's old value.
        """
        C, W1, b1, _, _ = self._learnt
        to_C, to_W1, to_b1, _, _ = self._into
        emb_BK, d_h_BH = self._emb_BK, self._d_h_BH
        id_row, id_matrix = ids
        torch.index_select(C, 0, id_row, out=self._emb_flat)
        # tanh(x) = 2 sigmoid(2 x) - 1: within 2e-7 of torch.tanh, at a third of its time.
        torch.addmm(b1, emb_BK, W1, beta=2, alpha=2, out=self._h_BH)
        self._upper_layers(targets, scale, keep, keep_bias)
        # The gradient of the embeddings is scaled here, since scatter_add_ has no factor.
        torch.addmm(emb_BK, d_h_BH, self._W1_t, beta=0, alpha=scale, out=self._d_emb_BK)
        to_W1.addmm_(self._emb_t, d_h_BH, beta=keep, alpha=scale)
        to_b1.addmv_(self._d_h_t, self._ones_B, beta=keep_bias, alpha=scale)
        if keep == 0:
            to_C.zero_()
        elif keep != 1:
            to_C.mul_(keep)
        to_C.scatter_add_(0, id_matrix, self._d_emb_flat)

    def _table_step(
        self,
        gathered: tuple[Tensor, Tensor, Tensor],
        targets: tuple[Tensor, Tensor, Tensor],
        scale: float,
        keep: float,
        keep_bias: float,
    ) -> None:
        """Run the same step as `_dense_step` with the first layer as a table."""
        C, W1, b1, _, _ = self._learnt
        to_C, to_W1, to_b1, _, _ = self._into
        vocab_size, dim = C.shape
        W1_QD, to_W1_QD, table_VQ = W1.view(-1, dim), to_W1.view(-1, dim), self._table_VQ
        rows_BT, sorted_R, bounds_P = gathered
        torch.addmm(table_VQ, C, W1_QD.t(), beta=0, alpha=2, out=table_VQ)
        table_PH = table_VQ.view(-1, self._h_BH.shape[1])
        doubled_BH = functional.embedding_bag(rows_BT, table_PH, mode="sum")
        torch.add(doubled_BH, b1, alpha=2, out=self._h_BH)
        self._upper_layers(targets, scale, keep, keep_bias)
        d_table_PH = functional.embedding_bag(sorted_R, self._d_h_BH, bounds_P, mode="sum")
        d_table_VQ = d_table_PH.view(vocab_size, -1)
        torch.mm(d_table_VQ, W1_QD, out=self._d_C_VD)
        to_W1_QD.addmm_(d_table_VQ.t(), C, beta=keep, alpha=scale)
        to_b1.addmv_(self._d_h_t, self._ones_B, beta=keep_bias, alpha=scale)
        if keep == 0:
            torch.mul(self._d_C_VD, scale, out=to_C)
        else:
            to_C.mul_(keep).add_(self._d_C_VD, alpha=scale)

    def _gathers(self, inputs_SBT: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return for each step the table rows of its contexts, and the contexts of each row.

        Rows are ordered by character, then by position.

        Returns:
            For each step the rows of each context, (B, T); the contexts of each row, concatenated,
            (B * T,); and the start of each row's contexts among them, (V * T,).
        """
        n_steps, n_rows = len(inputs_SBT), self._table_VQ.shape[0] * self._block_size
        rows_SBT = inputs_SBT * self._block_size + torch.arange(self._block_size)
        rows_SR = rows_SBT.view(n_steps, -1)
        # NumPy uses a radix sort for two-byte numbers, in a tenth of torch's time.
        small = rows_SR.numpy().astype(np.int16 if n_rows < 2**15 else np.int32)
        sorted_SR = torch.from_numpy(small.argsort(1, kind="stable")) // self._block_size
        numbered = rows_SR + n_rows * torch.arange(n_steps).unsqueeze(1)
        counts_SP = torch.bincount(numbered.view(-1), minlength=n_steps * n_rows).view(n_steps, -1)
        bounds_SP = counts_SP.cumsum(1) - counts_SP
        return list(zip(rows_SBT, sorted_SR, bounds_SP, strict=True))

    def _upper_layers(
        self,
        targets: tuple[Tensor, Tensor, Tensor],
        scale: float,
        keep: float,
        keep_bias: float,
    ) -> None:
        """Run the layers above the hidden one; leave the gradient of its inputs in `_d_h_BH`."""
        _, _, _, W2, b2 = self._learnt
        _, _, _, to_W2, to_b2 = self._into
        positions, minus_weights, log_p = targets
        h_BH, d_h_BH, p_BV = self._h_BH, self._d_h_BH, self._p_BV
        h_BH.sigmoid_()
        torch.add(self._minus_one, h_BH, alpha=2, out=h_BH)
        torch.addmm(b2, h_BH, W2, out=self._logits_BV)
        torch.log_softmax(self._logits_BV, 1, out=p_BV)
        torch.index_select(self._p_flat, 0, positions, out=log_p)
        p_BV.exp_()
        self._p_flat.index_add_(0, positions, minus_weights)
        # p_BV is now B times the gradient of the mean loss with respect to the logits. Each matrix
        # is read for the gradient below it before its own update.
        torch.mm(p_BV, self._W2_t, out=d_h_BH)
        to_W2.addmm_(self._h_t, p_BV, beta=keep, alpha=scale)
        to_b2.addmv_(self._p_t, self._ones_B, beta=keep_bias, alpha=scale)
        torch.ops.aten.tanh_backward.grad_input(d_h_BH, h_BH, grad_input=d_h_BH)

    def _adam_step(self, learning_rate: float) -> None:
        """Update the parameters by their gradient, with decoupled decay of the matrices."""
        assert self._gradient is not None  # noqa: S101 (the caller's condition, for the type checker)
        assert self.moments is not None  # noqa: S101 (likewise)
        vectors = (self.flat, self._gradient, *self.moments)
        for part, decay in (
            (slice(self._n_matrices), self._weight_decay),
            (slice(self._n_matrices, None), 0.0),
        ):
            flat, gradient, first, second = (vector[part] for vector in vectors)
            adamw(
                [flat],
                [gradient],
                [first],
                [second],
                [],
                [torch.tensor(float(self.n_done))],
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=learning_rate,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )
        self.n_done += 1

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Return C, W1, b1, W2 and b2 as views of a vector."""
        views = [flat[start : start + size].view(shape) for start, size, shape in self._places]
        if self._is_transposed:
            views[1] = views[1].view(views[1].shape[::-1]).t()
        return views

    def _arranged(self, parameters: Parameters) -> Parameters:
        """Return parameters with W1 in the order of the vector."""
        if not self._has_table:
            return parameters
        dim, hidden_width = parameters.C.shape[1], parameters.W1.shape[1]
        by_position = parameters.W1.view(self._block_size, dim, hidden_width)
        W1 = by_position.transpose(1, 2).reshape(parameters.W1.shape)
        return Parameters(parameters.C, W1, parameters.b1, parameters.W2, parameters.b2)


def _split(vector: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """Split a vector; equal pieces take a third of the time."""
    if min(sizes) == max(sizes):
        return vector.view(len(sizes), -1).unbind()
    return torch.split(vector, sizes)


def _layout(parameters: Parameters) -> tuple[int, int, list[tuple[int, int, torch.Size]]]:
    """Lay out the tensors in a vector, the matrices first.

    Returns:
        The start of the first bias, the size of the vector, and for C, W1, b1, W2 and b2 the start,
        size and shape.
    """
    tensors = list(parameters.named().values())
    places: dict[int, tuple[int, int, torch.Size]] = {}
    end = n_matrices = 0
    for dimensions in (2, 1):
        for index, tensor in enumerate(tensors):
            if tensor.dim() == dimensions:
                places[index] = (end, tensor.numel(), tensor.shape)
                end += -(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT
        n_matrices = n_matrices or end
    return n_matrices, end, [places[index] for index in range(len(tensors))]
