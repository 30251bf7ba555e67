"""A norm as the weights and the scale it is made of, so that many gradients can be taken back through it at
once.

    norm(x) = (x C / sigma(x)) * w + shift        C: centring or nothing,   sigma(x)^2 = mean (x C)^2 + eps

and for a gradient u at its output, with y = norm(x) - shift and the unit stream x C / sigma,

    gradient at x = ( C (w * u) - (y . u) unit / d ) / sigma

All of it is read off the norm's own module with its scale held; where the module is made otherwise,
`NormParts.of` says None.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

TOLERANCE = 1e-4
CHECKED = 16  # tokens


@dataclass(frozen=True, eq=False)
class HeldNorm:
    """A norm at a stream.

    Attributes:
        scale: sigma(x).
        unit: x C / sigma.
        moves: whether the scale answers to x; not so where a rule holds it.
    """

    scale: Float[Tensor, "prompt pos 1"]
    unit: Float[Tensor, "prompt pos d_model"]
    moves: bool


@dataclass(frozen=True, eq=False)
class NormParts:
    """What a norm is made of.

    Attributes:
        norm: its module, or a function that hands on what it is given.
        weight: w.
        centred: whether C takes the mean off.
        shift: what is added.
    """

    norm: Callable[[Tensor], Tensor]
    weight: Float[Tensor, "d_model"]
    centred: bool
    shift: Float[Tensor, "d_model"]

    @classmethod
    @torch.no_grad()
    def of(
        cls, norm: Callable[[Tensor], Tensor], x: Float[Tensor, "prompt pos d_model"]
    ) -> "NormParts | None":
        """The parts of a norm, checked against its own derivative at a few tokens of a stream; None where
        they are others.
        """
        width = x.shape[-1]
        if not isinstance(norm, nn.Module):
            zero = x.new_zeros(1, 1, width)
            return (
                None
                if norm(zero) is not zero
                else cls(norm, torch.ones(width).to(x), False, torch.zeros(width).to(x))
            )
        if not hasattr(norm, "hook_scale"):
            return None
        signs = 1 - 2 * (torch.arange(width) % 2).to(x)
        nothing, level, mixed = _hooked(
            norm, torch.ones_like, torch.stack([0 * signs, signs.abs(), signs])[None]
        )[0].to(x)
        centred = width > 1 and float((level - nothing).abs().max()) < TOLERANCE * float(
            (mixed - nothing).abs().max()
        )
        found = cls(norm, (mixed - nothing) / (signs - signs.mean() if centred else signs), centred, nothing)
        few = x[:1, :CHECKED].detach()
        probe = few.flip(-1)
        with torch.enable_grad():
            leaf = few.clone().requires_grad_()
            out = norm(leaf)
            (exact,) = torch.autograd.grad(out, leaf, probe.to(out.dtype))
        return (
            found
            if float((found._back(few, probe) - exact).abs().max()) <= TOLERANCE * float(exact.abs().max())
            else None
        )

    @torch.no_grad()
    def at(self, x: Float[Tensor, "prompt pos d_model"]) -> HeldNorm:
        """The norm at a stream."""
        if not isinstance(self.norm, nn.Module):
            return HeldNorm(torch.ones_like(x[..., :1]), x, False)
        seen: list[Tensor] = []
        with torch.enable_grad():
            _hooked(self.norm, lambda value: seen.append(value), x.detach().requires_grad_())
        scale = seen[0].detach().to(x)
        return HeldNorm(
            scale, (x - x.mean(-1, keepdim=True) if self.centred else x) / scale, seen[0].requires_grad
        )

    def inward(self, columns: Float[Tensor, "head d_model some"]) -> Float[Tensor, "head d_model some"]:
        """C (w * u) of vectors u at the norm's output that stand in columns."""
        if not self.centred:
            return self.weight[:, None] * columns
        mean = (self.weight @ columns) / columns.shape[1]
        return torch.addcmul(-mean[:, None].expand_as(columns), columns, self.weight[:, None])

    def _back(
        self, x: Float[Tensor, "1 pos d_model"], grads: Float[Tensor, "1 pos d_model"]
    ) -> Float[Tensor, "1 pos d_model"]:
        """A gradient at the output taken back to the stream."""
        held, out = self.at(x), self.inward(grads.transpose(1, 2)).transpose(1, 2)
        if held.moves:
            out = out - (self.weight * held.unit * grads).sum(-1, keepdim=True) * held.unit / grads.shape[-1]
        return out / held.scale


def _hooked(norm: Any, function: Callable[[Tensor], Tensor | None], x: Tensor) -> Tensor:
    handle = nn.Module.register_forward_hook(norm.hook_scale, lambda module, given, out: function(out))
    try:
        with warnings.catch_warnings():
            # the bridge says that a held scale leaves Hugging Face's own norm
            warnings.simplefilter("ignore")
            return norm(x)
    finally:
        handle.remove()
