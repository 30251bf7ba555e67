"""Values that nodes take where a prompt has no aligned partner: `mean`, `zero` or `resample`.

With an aligned pair a node is compared with its value on the corrupt prompt, position by position. Without
one,

    mean        its mean over reference prompts and positions
    zero        nothing
    resample    its value on another reference prompt, drawn once, the last tokens side by side

and effects are taken on the clean run: effect = M(clean) - M(clean run with the node at its baseline), to
first order <clean - baseline value, gradient at the clean run>. Positive still means that the clean value
raises the metric. Reference prompts are the corrupt prompts, of any length and number, or the clean prompts
where there are none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator

BASELINES = ("mean", "zero", "resample")
PART_TOKENS = 1024
Run = Callable[[Tensor], Mapping[str, Tensor]]
"""Token ids (prompt, pos) -> values by name, each (prompt, pos, …)."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline without pairs.

    Attributes:
        name: `mean`, `zero` or `resample`.
        prompts: reference prompts.
        seed: seed of the draw.
    """

    name: str
    prompts: Int[Tensor, "..."]
    seed: int = 0
    _means: dict[tuple[str, ...], dict[str, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.name not in BASELINES:
            raise unknown("baseline", self.name, BASELINES)
        if self.prompts.ndim != 2 or 0 in self.prompts.shape:
            raise UserError(
                f"reference prompts of shape {tuple(self.prompts.shape)}",
                expected="token ids (prompt, pos), not empty",
            )

    @property
    def passes(self) -> int:
        """Forward passes that its values cost a batch."""
        return 0 if self.name == "zero" else 1

    def values(
        self, run: Run, own: Mapping[str, Tensor], tokens: Int[Tensor, "prompt pos"]
    ) -> dict[str, Tensor]:
        """The baseline of what `own` holds on the prompts `tokens`, in the same shapes."""
        if self.name == "zero":
            return {name: torch.zeros_like(value) for name, value in own.items()}
        if self.name == "mean":
            return {name: value.expand_as(own[name]) for name, value in self.mean(run, tuple(own)).items()}
        return {
            name: _from_the_end(value, own[name].shape[1]) for name, value in run(self.donors(tokens)).items()
        }

    @torch.no_grad()
    def mean(self, run: Run, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Means of these values over reference prompts and positions; worked out once."""
        if names not in self._means:
            sums, counts = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
            rows = max(1, PART_TOKENS // self.prompts.shape[1])
            for start in range(0, len(self.prompts), rows):
                found = run(self.prompts[start : start + rows])
                for name in names:
                    sums[name] = sums[name] + found[name].sum((0, 1))
                    counts[name] += found[name].shape[0] * found[name].shape[1]
            self._means[names] = {name: sums[name] / counts[name] for name in names}
        return self._means[names]

    def donors(self, tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt other"]:
        """One reference prompt for each prompt, never the prompt itself; the same one however prompts are
        batched.

        Raises:
            UserError: no other prompt.
        """
        chosen = []
        for row in tokens:
            same = (
                (self.prompts == row).all(1)
                if self.prompts.shape[1] == len(row)
                else torch.zeros(len(self.prompts), dtype=torch.bool)
            )
            others = (~same).nonzero().squeeze(1)
            if not len(others):
                raise UserError(
                    "no other prompt to resample from",
                    expected="reference prompts in `corrupt`, or several clean ones",
                )
            draw = generator(self.seed, "donor", *row.tolist()).integers(len(others))
            chosen.append(int(others[draw]))
        return self.prompts[chosen]


def _from_the_end(value: Tensor, length: int) -> Tensor:
    """The last `length` positions; where there are fewer, the first one is repeated before them."""
    missing = length - value.shape[1]
    if missing <= 0:
        return value[:, -length:]
    return torch.cat([value[:, :1].expand(-1, missing, *value.shape[2:]), value], dim=1)
