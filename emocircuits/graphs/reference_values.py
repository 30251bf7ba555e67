"""Values that nodes take where a prompt has no aligned partner.

With an aligned pair a node is compared with its value on the corrupt prompt, position by position. Without
one, under the ablations (`interventions.ablate.ABLATIONS`)

    mean        its mean over reference prompts and positions
    zero        nothing
    resample    its value on another reference prompt, drawn once, the last tokens side by side

and effects are taken on the clean run: effect = M(clean) - M(clean run with the node at its reference value),
to first order <clean - reference value, gradient at the clean run>. Positive still means that the clean value
raises the metric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS, Ablation
from emocircuits.numerics import generator
from emocircuits.passes.prompt_pairs import Reference

PART_TOKENS = 1024
Read = Callable[[Int[Tensor, "prompt pos"]], Mapping[str, Tensor]]
"""Token ids -> values by name, each `(prompt, pos, …)`."""


@dataclass(frozen=True, eq=False)
class ReferenceValues:
    """Reference values of whatever `read` reads.

    Attributes:
        reference: which ablation, and the reference prompts.
        read: reads values on prompts.
    """

    reference: Reference
    read: Read

    @property
    def card(self) -> Ablation:
        """The ablation."""
        return ABLATIONS.get(self.reference.ablation)

    @property
    def passes(self) -> int:
        """Forward passes that the values cost a batch."""
        return int(self.card.needs_other or self.card.needs_mean)

    @torch.no_grad()
    def at(self, tokens: Int[Tensor, "prompt pos"], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reference values of what `own` holds on the prompts `tokens`; axes of length one are shared."""
        other = dict(own)
        if self.card.needs_other:
            donated = self.read(self.donors(tokens))
            other = {name: _from_the_end(donated[name], value.shape[1]) for name, value in own.items()}
        return {
            name: self.card.value(value, self.means[name] if self.card.needs_mean else None)
            for name, value in other.items()
        }

    @cached_property
    @torch.no_grad()
    def means(self) -> dict[str, Tensor]:
        """Means over reference prompts and positions, `(1, 1, …)`."""
        prompts, sums, count = self.reference.prompts, {}, 0
        rows = max(1, PART_TOKENS // prompts.shape[1])
        for start in range(0, len(prompts), rows):
            for name, value in self.read(prompts[start : start + rows]).items():
                sums[name] = sums.get(name, 0) + value.sum((0, 1), keepdim=True)
            count += prompts[start : start + rows].numel()
        return {name: total / count for name, total in sums.items()}

    def donors(self, tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt other"]:
        """One reference prompt for each prompt, never the prompt itself; the same one however prompts are
        batched.

        Raises:
            UserError: no other prompt.
        """
        prompts, chosen = self.reference.prompts, []
        for row in tokens:
            same = torch.zeros(len(prompts), dtype=torch.bool)
            if prompts.shape[1] == len(row):
                same = (prompts == row).all(1)
            others = (~same).nonzero().squeeze(1)
            if not len(others):
                raise UserError(
                    "no other prompt to resample from",
                    expected="reference prompts in `corrupt`, or several clean ones",
                )
            draw = generator(self.reference.seed, "donor", *row.tolist()).integers(len(others))
            chosen.append(int(others[draw]))
        return prompts[chosen]


def _from_the_end(value: Tensor, length: int) -> Tensor:
    """The last `length` positions; where there are fewer, the first one is repeated before them."""
    missing = length - value.shape[1]
    if missing <= 0:
        return value[:, -length:]
    return torch.cat([value[:, :1].expand(-1, missing, *value.shape[2:]), value], dim=1)
