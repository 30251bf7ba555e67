"""Decoding and gradients that touch only active features.

With n active features of S, x̂ = Σ_i z_i W_dec[i] is a weighted sum of n rows instead of a product with all
S, and so are both weight gradients: dW_dec[i] = Σ_b z_bi g_b and dW_enc[:, i] = Σ_b dz_bi x_b, with dz_bi =
⟨g_b, W_dec[i]⟩. Every weighted sum is one `embedding_bag`. The gradient of the norm that sae-lens multiplies
by before and divides by after the selection cancels, so it is left out; that of b_dec through the input is
-W_enc Σ_b dz_b, without the product that the input's own gradient would take.
"""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from emocircuits.sae.selection import Selection

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def decode_selected(
    x: Float[Tensor, "batch d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, "d_sae"],
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, "d_in"],
    selection: Selection,
    *,
    add_bias: bool = True,
    centred: bool = True,
) -> Float[Tensor, "batch d_in"]:
    """Σ_i z_i W_dec[i] (+ b_dec) over the selected features of each token, differentiable in all four
    weights.

    Args:
        x: what the encoder saw (b_dec already subtracted); its own gradient is not computed.
        W_enc, b_enc, W_dec, b_dec: the weights.
        selection: `values` are z = x W_enc + b_enc at the active entries; an entry of exactly 0 passes no
            gradient (its ReLU is shut).
        add_bias: whether b_dec is added.
        centred: whether x was made by subtracting b_dec.
    """
    return _Decode.apply(x, W_enc, b_enc, W_dec, b_dec, selection, add_bias, centred)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W_enc, b_enc, W_dec, b_dec, selection, add_bias, centred):
        ctx.save_for_backward(x, W_enc, W_dec)
        ctx.selection, ctx.add_bias, ctx.centred = selection, add_bias, centred
        out = _bags(W_dec, selection.features, selection.row_starts, selection.values)
        return out.add_(b_dec) if add_bias else out

    @staticmethod
    def backward(ctx, grad):
        x, W_enc, W_dec = ctx.saved_tensors
        chosen, grad = ctx.selection, grad.contiguous()
        values = chosen.values
        dz = row_dots(grad, W_dec, chosen)
        dz.mul_(values != 0)
        order, starts = chosen.by_feature, chosen.feature_starts
        rows = chosen.rows[order]
        d_dec = _bags(grad, rows, starts, values[order]) if ctx.needs_input_grad[3] else None
        d_enc = _bags(x, rows, starts, dz[order]).t()
        d_b_enc = torch.zeros_like(W_dec[:, 0]).index_add_(0, chosen.features, dz)
        d_b_dec = grad.sum(0) if ctx.add_bias else torch.zeros_like(W_dec[0])
        if ctx.centred:
            d_b_dec = d_b_dec - W_enc @ d_b_enc
        return None, d_enc, d_b_enc, d_dec, d_b_dec, None, None, None


def row_dots(
    left: Float[Tensor, "batch d_in"], right: Float[Tensor, "d_sae d_in"], chosen: Selection
) -> Float[Tensor, "active"]:
    """⟨left[token], right[feature]⟩ of every selected entry."""
    pattern = torch.sparse_csr_tensor(
        torch.cat([chosen.row_starts, chosen.row_starts.new_tensor([len(chosen.features)])]),
        chosen.features,
        left.new_zeros(len(chosen.features)),
        chosen.shape,
        check_invariants=False,
    )
    return torch.sparse.sampled_addmm(pattern, left, right.t(), beta=0.0).values()


def _bags(table: Tensor, entries: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(entries, table, starts, mode="sum", per_sample_weights=weights)
