"""Cross-entropy of a linear read-out, computed with its gradient in one pass over pieces that stay in the
cache.

loss = Σ_n w_n (logsumexp_v(h_n · W_v) - Σ_v q_nv h_n · W_v), the target q_n being one token or, at the tokens
given as `spread`, shares of several. Equals `F.cross_entropy(h @ W.T, q)` weighted by w, without ever holding
all logits (at a small model's size they cost more than the model).
"""

import torch
from jaxtyping import Float, Int

PIECE = 1024

Spread = tuple[Int[torch.Tensor, "share"], Int[torch.Tensor, "share"], Float[torch.Tensor, "share"]]
"""(token number, vocabulary id, share of the target): targets that are spread over several words."""


class LinearCrossEntropy(torch.autograd.Function):
    """Weighted sum of cross-entropies; gradients to the hidden states and to the read-out matrix."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Float[torch.Tensor, "token d_model"],
        readout: Float[torch.Tensor, "vocabulary d_model"],
        targets: Int[torch.Tensor, "token"],
        weights: Float[torch.Tensor, "token"],
        spread: Spread,
        dtype: torch.dtype,
    ) -> Float[torch.Tensor, ""]:
        """The loss, block by block of tokens, with its gradients kept for the backward pass."""
        single = torch.ones_like(weights)
        single[spread[0]] = 0.0
        states, matrix = hidden.to(dtype), readout.to(dtype)
        grad_states, grad_matrix = torch.empty_like(states), torch.zeros_like(readout)
        loss = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(states), PIECE):
            piece = slice(start, start + PIECE)
            target, weight = targets[piece], weights[piece]
            logits = (states[piece] @ matrix.T).float()
            total = torch.logsumexp(logits, dim=1)
            aim = weight * single[piece]
            inside = (spread[0] >= start) & (spread[0] < start + len(target))
            rows, columns = spread[0][inside] - start, spread[1][inside]
            shares = spread[2][inside] * weight[rows]
            loss += (total * weight).sum() - (logits.gather(1, target[:, None])[:, 0] * aim).sum()
            loss -= (logits[rows, columns] * shares).sum()
            slope = logits.sub_(total[:, None]).exp_().mul_(weight[:, None])
            slope[torch.arange(len(target)), target] -= aim
            slope.index_put_((rows, columns), -shares, accumulate=True)
            slope = slope.to(dtype)
            grad_states[piece] = slope @ matrix
            grad_matrix += (slope.T @ states[piece]).float()
        ctx.save_for_backward(grad_states.to(hidden.dtype), grad_matrix)
        return loss

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Float[torch.Tensor, ""]) -> tuple:
        """The kept gradients times that of the loss; the other arguments have none."""
        states, matrix = ctx.saved_tensors
        return states * grad.to(states.dtype), matrix * grad, None, None, None, None


def linear_cross_entropy(
    hidden: Float[torch.Tensor, "token d_model"],
    readout: Float[torch.Tensor, "vocabulary d_model"],
    targets: Int[torch.Tensor, "token"],
    weights: Float[torch.Tensor, "token"],
    spread: Spread | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[torch.Tensor, ""]:
    """Weighted sum of cross-entropies of `hidden @ readout.T`, products taken in `dtype`."""
    if spread is None:
        none = torch.zeros(0, dtype=torch.long)
        spread = (none, none, torch.zeros(0))
    return LinearCrossEntropy.apply(hidden, readout, targets, weights, spread, dtype)
