"""Take SAE features or error nodes out: give them a baseline value while everything else runs live.

A baseline is what an ablated node is set to (Wang et al. 2022; Marks et al. 2024): `resample` its value on
the corrupt prompt, `mean` its mean over corrupt prompts and positions, `zero` nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float

from emocircuits.errors import UserError
from emocircuits.passes.edit import edited
from emocircuits.registry import Registry
from emocircuits.sae.dictionary import Dictionary, open_dictionaries


@dataclass(frozen=True, eq=False)
class Keep:
    """Which nodes of one site stay live; the rest take the baseline.

    Attributes:
        features: per batch row, or one row for all.
        error: the same for the error node.
    """

    features: Bool[torch.Tensor, "#prompt d_sae"]
    error: Bool[torch.Tensor, "#prompt"]


@dataclass(frozen=True, eq=False)
class NodeValues:
    """Values of all nodes of one site; axes of length one are shared.

    Attributes:
        features: feature activations.
        error: error vectors.
    """

    features: Float[torch.Tensor, "*#row d_sae"]
    error: Float[torch.Tensor, "*#row d_in"]

    @classmethod
    def of(cls, dictionary: Dictionary, stream: Float[torch.Tensor, "*row d_in"]) -> "NodeValues":
        """What a stream is made of."""
        features = dictionary.encode(stream)
        return cls(features, stream.to(features.dtype) - dictionary.decode(features))


@dataclass(frozen=True)
class Ablation:
    """What a node is set to when it is taken out. One card serves features, errors, heads, MLPs and
    embeddings.

    Attributes:
        name: its name.
        summary: one line.
        value: (the node's value on the other prompts `(prompt, pos, …)`, its mean over them `(1, 1, …)`) ->
            what it is set to, in a shape that expands to the first. The other prompts are the corrupt ones
            or, where prompts have no partner, donors.
        needs_mean: whether the mean is read; it is None otherwise.
        needs_other: whether the value on the other prompts is read; otherwise only its shape and type are.
    """

    name: str
    summary: str
    value: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
    needs_mean: bool = False
    needs_other: bool = True

    @property
    def takes_other(self) -> bool:
        """Whether a node is set to its value on the other prompts, unchanged."""
        probe = torch.zeros(1, 1, 1)
        return self.needs_other and not self.needs_mean and self.value(probe, None) is probe

    def values(
        self, other: Sequence[torch.Tensor], mean: Sequence[torch.Tensor] | None
    ) -> tuple[torch.Tensor, ...]:
        """`value` of several tensors side by side."""
        means = mean if self.needs_mean else [None] * len(other)
        return tuple(self.value(one, average) for one, average in zip(other, means, strict=True))


def _nothing(other: torch.Tensor, mean: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros_like(other[:1, :1])


ABLATIONS: Registry[Ablation] = Registry("ablation")
for card in (
    Ablation("resample", "the node's value on the corrupt prompt", lambda other, mean: other),
    Ablation(
        "mean",
        "the node's mean over corrupt prompts and positions",
        lambda other, mean: mean,
        needs_mean=True,
        needs_other=False,
    ),
    Ablation("zero", "zero, at every position", _nothing, needs_other=False),
):
    ABLATIONS.add(card)


@contextmanager
def keep_only(
    model: Any, saes: Mapping[str, Any], keep: Mapping[str, Keep], baseline: Mapping[str, NodeValues]
) -> Iterator[None]:
    """Sets every node that is not kept to its baseline, at every site that `keep` names, in each forward
    pass.

    Kept nodes are computed live, so they see what the ablations upstream did to them. With masks m and live
    (f, e) the stream becomes decode(m f + (1 - m) f_base) + (e where the error is kept, else e_base). It is
    computed as `x + ((1 - m)(f_base - f)) @ decoder` where the error is kept and as `x_base - (m (f_base -
    f)) @ decoder` where not, with x_base = decode(f_base) + e_base, over the columns that any row needs: a
    small circuit costs little beside the encoder.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        keep: site -> nodes that stay.
        baseline: site -> values of the others.

    Raises:
        UserError: a site without SAE or baseline, or an SAE that does not fit.
        Failure: no forward pass ran through a site.
    """
    for site in keep:
        if site not in saes or site not in baseline:
            raise UserError(f"no {'SAE' if site not in saes else 'baseline'} for the ablation at {site}")
    dictionaries = open_dictionaries({site: saes[site] for site in keep}, getattr(model.cfg, "d_model", None))
    edits = {site: _edit(dictionary, keep[site], baseline[site]) for site, dictionary in dictionaries.items()}
    with edited(model, edits, what="keep_only", must_change=False):
        yield


def _edit(dictionary: Dictionary, keep: Keep, baseline: NodeValues) -> Callable[[torch.Tensor], torch.Tensor]:
    stream = dictionary.decode(baseline.features) + baseline.error
    sign = torch.where(
        keep.error[:, None], (~keep.features).to(stream.dtype), -keep.features.to(stream.dtype)
    )
    columns = (sign != 0).any(0).nonzero().squeeze(1)
    sign, base, decoder = sign[:, None, columns], baseline.features[..., columns], dictionary.decoder[columns]

    def edit(x: torch.Tensor) -> torch.Tensor:
        start = torch.where(keep.error[:, None, None], x.to(stream.dtype), stream)
        if not len(columns):
            return start
        return start + ((base - dictionary.encode(x)[..., columns]) * sign) @ decoder

    return edit
