"""A norm as the weights and the scale it is made of, so that many gradients can be taken back through it at once.

    norm(x) = (x C / sigma(x)) * w + shift        C: centring or nothing,   sigma(x)^2 = mean (x C)^2 + eps

and for a gradient u at its output, with y = norm(x) - shift and the unit stream x C / sigma,

    gradient at x = ( C (w * u) - (y . u) unit / d ) / sigma

All of it is read off the norm's own module with its scale held; where the module is made otherwise, `HeldNorm.of` says None.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emocircuits.attribution.parts.part import through_norm

TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class HeldNorm:
    """A norm at a stream.

    Attributes:
        weight: w.
        centred: whether C takes the mean off.
        shift: what is added.
        scale: sigma(x).
        normed: y, the output without its shift.
        unit: x C / sigma.
        moves: whether the scale answers to x; not so where a rule holds it.
    """

    weight: Float[Tensor, "d_model"]
    centred: bool
    shift: Float[Tensor, "d_model"]
    scale: Float[Tensor, "prompt pos 1"]
    normed: Float[Tensor, "prompt pos d_model"]
    unit: Float[Tensor, "prompt pos d_model"]
    moves: bool

    @classmethod
    @torch.no_grad()
    def of(cls, norm: Callable[[Tensor], Tensor], x: Float[Tensor, "prompt pos d_model"]) -> "HeldNorm | None":
        """The parts of a norm at x, checked against its own derivative at one prompt; None where they are others."""
        width = x.shape[-1]
        if not isinstance(norm, nn.Module):
            zero = x.new_zeros(1, 1, width)
            return None if norm(zero) is not zero else cls(
                torch.ones(width).to(x), False, torch.zeros(width).to(x), torch.ones_like(x[..., :1]), x, x, False)
        if not hasattr(norm, "hook_scale"):
            return None
        with torch.enable_grad():
            seen: list[Tensor] = []
            out = _hooked(norm, lambda value: seen.append(value), x.detach().requires_grad_())
        scale, moves = seen[0].detach(), seen[0].requires_grad
        signs = 1 - 2 * (torch.arange(width) % 2).to(x)
        nothing, level, mixed = _hooked(norm, torch.ones_like, torch.stack([0 * signs, signs.abs(), signs])[None])[0].to(x)
        centred = width > 1 and float((level - nothing).abs().max()) < TOLERANCE * float((mixed - nothing).abs().max())
        weight = (mixed - nothing) / (signs - signs.mean() if centred else signs)
        unit = (x - x.mean(-1, keepdim=True) if centred else x) / scale
        found = cls(weight, centred, nothing, scale.to(x), (out.detach() - nothing).to(x), unit, moves)
        probe = found.normed[:1].flip(-1)
        exact = through_norm(norm, x[:1], probe[None])[0]
        return found if float((found.back(probe) - exact).abs().max()) <= TOLERANCE * float(exact.abs().max()) else None

    def inward(self, columns: Float[Tensor, "head d_model some"]) -> Float[Tensor, "head d_model some"]:
        """C (w * u) of vectors u at the norm's output that stand in columns."""
        out = self.weight[:, None] * columns
        return out - out.mean(1, keepdim=True) if self.centred else out

    def back(self, grads: Float[Tensor, "1 pos d_model"]) -> Float[Tensor, "1 pos d_model"]:
        """A gradient at the output of the first prompt, taken back to its stream."""
        out = self.inward(grads.transpose(1, 2)).transpose(1, 2)
        if self.moves:
            out = out - (self.normed[:1] * grads).sum(-1, keepdim=True) * self.unit[:1] / grads.shape[-1]
        return out / self.scale[:1]


def _hooked(norm: Any, function: Callable[[Tensor], Tensor | None], x: Tensor) -> Tensor:
    handle = nn.Module.register_forward_hook(norm.hook_scale, lambda module, given, out: function(out))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bridge says that a held scale leaves Hugging Face's own norm
            return norm(x)
    finally:
        handle.remove()
