"""The training step, with hand-written gradients in place of autograd.

At these sizes autograd costs more than the arithmetic: the step below allocates nothing, fuses
each update into the matrix product that makes its gradient, and is held to autograd by the tests.

Shape suffixes as in `mlp`; S is the number of steps of one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from mmsearch.model.mlp import Parameters


class SGDKernel:
    """Runs SGD steps on its own copy of the parameters, in their dtype, on the CPU.

    Not thread-safe: the buffers belong to one caller.
    """

    def __init__(
        self, parameters: Parameters, *, batch_size: int, weight_decay: float = 0.0
    ) -> None:
        self.parameters = parameters.map(torch.clone)
        """What has been learnt so far; changed in place by `steps`."""
        self._weight_decay = weight_decay
        vocab_size, embedding_dim = parameters.C.shape
        n_inputs, hidden_width = parameters.W1.shape
        new = parameters.C.new_empty
        self._emb_BK = new(batch_size, n_inputs)
        self._d_emb_BK = new(batch_size, n_inputs)
        self._h_BH = new(batch_size, hidden_width)
        self._d_h_BH = new(batch_size, hidden_width)
        self._logits_BV = new(batch_size, vocab_size)
        self._p_BV = new(batch_size, vocab_size)
        self._ones_B = new(batch_size).fill_(1)
        self._minus_ones_B1 = new(batch_size, 1).fill_(-1)
        self._minus_one = new(()).fill_(-1)
        self._embedding_dim = embedding_dim

    @torch.inference_mode()
    def steps(
        self, inputs_SBT: Tensor, targets_SB: Tensor, learning_rates: Sequence[float]
    ) -> Tensor:
        """Take one SGD step for each row of minibatches.

        Args:
            inputs_SBT: ids in [0, V), int32 or int64.
            targets_SB: ids, int64.
            learning_rates: one a step.

        Returns:
            Losses in nats of each example before its step's update, shape (S, B).
        """
        C, W1, b1, W2, b2 = self.parameters.named().values()
        emb_BK, d_emb_BK, h_BH, d_h_BH = self._emb_BK, self._d_emb_BK, self._h_BH, self._d_h_BH
        logits_BV, p_BV, ones_B = self._logits_BV, self._p_BV, self._ones_B
        emb_flat, d_emb_flat = (
            emb_BK.view(-1, self._embedding_dim),
            d_emb_BK.view(-1, self._embedding_dim),
        )
        emb_t, h_t, d_h_t, p_t, W1_t, W2_t = (
            tensor.t() for tensor in (emb_BK, h_BH, d_h_BH, p_BV, W1, W2)
        )
        n_steps, batch_size = targets_SB.shape
        log_p_SB1 = self._p_BV.new_empty(n_steps, batch_size, 1)
        ids = inputs_SBT.reshape(n_steps, -1).long()
        rows = zip(
            ids.unbind(),
            ids.unsqueeze(2).expand(-1, -1, self._embedding_dim).unbind(),
            targets_SB.unsqueeze(2).unbind(),
            log_p_SB1.unbind(),
            learning_rates,
            strict=True,
        )
        for id_row, id_matrix, target_B1, log_p_B1, learning_rate in rows:
            scale = -learning_rate / batch_size
            keep = 1 - learning_rate * self._weight_decay
            torch.index_select(C, 0, id_row, out=emb_flat)
            # tanh(x) = 2 sigmoid(2 x) - 1: within 2e-7 of torch.tanh, at a third of its time.
            torch.addmm(b1, emb_BK, W1, beta=2, alpha=2, out=h_BH)
            h_BH.sigmoid_()
            torch.add(self._minus_one, h_BH, alpha=2, out=h_BH)
            torch.addmm(b2, h_BH, W2, out=logits_BV)
            torch.log_softmax(logits_BV, 1, out=p_BV)
            torch.gather(p_BV, 1, target_B1, out=log_p_B1)
            p_BV.exp_()
            p_BV.scatter_add_(1, target_B1, self._minus_ones_B1)
            # p_BV is now B times the gradient of the mean loss by the logits. Each matrix is
            # read for the gradient below it before its own update.
            torch.mm(p_BV, W2_t, out=d_h_BH)
            W2.addmm_(h_t, p_BV, beta=keep, alpha=scale)
            b2.addmv_(p_t, ones_B, alpha=scale)
            torch.ops.aten.tanh_backward.grad_input(d_h_BH, h_BH, grad_input=d_h_BH)
            # The embeddings' gradient is scaled here: scatter_add_ takes no factor.
            torch.addmm(emb_BK, d_h_BH, W1_t, beta=0, alpha=scale, out=d_emb_BK)
            W1.addmm_(emb_t, d_h_BH, beta=keep, alpha=scale)
            b1.addmv_(d_h_t, ones_B, alpha=scale)
            if self._weight_decay:
                C.mul_(keep)
            C.scatter_add_(0, id_matrix, d_emb_flat)
        return log_p_SB1.squeeze(2).neg_()
