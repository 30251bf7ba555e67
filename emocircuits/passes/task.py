"""The task: what is asked of a model. A metric on clean and corrupt prompts, and the SAEs whose features are
nodes.

Attribution, circuits and their scores are all functions of a task; it is frozen, and its `replace`-like
methods give another one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.models.language_model import check_context
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.metric import Metric, reads_last_position
from emocircuits.passes.prompt_pairs import DEFAULT_MAX_TOKENS, PairBatch, PromptPairs
from emocircuits.sae.dictionary import Dictionary, open_dictionaries


@dataclass(frozen=True, eq=False)
class Task:
    """A metric on prompt pairs of a model.

    Attributes:
        model: any TransformerLens object (`TransformerBridge`, `HookedTransformer`), or a `LanguageModel`,
            whose bridge is taken; it is left as it was by everything.
        prompts: clean and corrupt prompts, pair by pair; moved to where the model's weights are.
        metric: logits `(prompt, pos, d_vocab)` -> one value per prompt.
        saes: site -> SAE; opened and in the order of the layers once the task is made.
        max_tokens: tokens of one side per pass.
        behaviour: name that results carry.
    """

    model: Any
    prompts: PromptPairs
    metric: Metric
    saes: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = DEFAULT_MAX_TOKENS
    behaviour: str = ""
    _last: dict[tuple[int, ...], bool] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", getattr(self.model, "bridge", self.model))
        device = next(self.model.parameters()).device
        if any(group.clean.device != device for group in self.prompts.groups):
            object.__setattr__(self, "prompts", self.prompts.to(device))
        context = getattr(self.model.cfg, "n_ctx", None)
        if context is not None:
            check_context(self.prompts.longest, int(context))
        if self.max_tokens < 1:
            raise UserError(f"{self.max_tokens} tokens per pass", expected="at least 1")
        opened = open_dictionaries(self.saes, getattr(self.model.cfg, "d_model", None)) if self.saes else {}
        object.__setattr__(self, "saes", opened)

    @property
    def dictionaries(self) -> dict[str, Dictionary]:
        """site -> opened SAE, in the order of the layers.

        Raises:
            UserError: the task has no SAE.
        """
        if not self.saes:
            raise UserError("features without SAEs", expected="saes: a mapping from site to SAE")
        return dict(self.saes)

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where the model's heads and MLPs are; found and checked when first asked for."""
        return open_anatomy(self.model, self.prompts.groups[0].corrupt)

    def reads_last(self, length: int, index: Int[Tensor, "prompt"]) -> bool:
        """Whether the metric of prompts of this length reads the last position alone; asked once a batch."""
        key = (length, *index.tolist())
        if key not in self._last:
            self._last[key] = reads_last_position(self.model, self.metric, length, index)
        return self._last[key]

    def batches(self, max_tokens: int | None = None) -> Iterator[PairBatch]:
        """The prompts in batches of one length."""
        return self.prompts.by_length(max_tokens or self.max_tokens)

    def on(self, prompts: PromptPairs) -> "Task":
        """The same question about other prompts."""
        return self._like(prompts=prompts)

    def swapped(self) -> "Task":
        """The same question with the sides of all pairs exchanged."""
        return self.on(self.prompts.swapped())

    def with_saes(self, saes: Mapping[str, Any]) -> "Task":
        """The same question with other SAEs."""
        return self._like(saes=saes)

    def with_metric(self, metric: Metric) -> "Task":
        """Another metric on the same prompts."""
        return self._like(metric=metric)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the model's weights."""
        return next(self.model.parameters()).dtype

    def at_sites(self, sites: Collection[str]) -> "Task":
        """The same question with the SAEs of some sites.

        Raises:
            UserError: a site without SAE.
        """
        missing = sorted(site for site in sites if site not in self.saes)
        if missing:
            raise UserError(
                f"no SAE for {missing[0]}, where nodes are asked for",
                expected=f"saes with {', '.join(missing)}",
            )
        return self.with_saes({site: self.saes[site] for site in sites})

    def _like(self, **changes: Any) -> "Task":
        """The same with changes; what is known of the model stays known."""
        task = replace(self, **changes)
        if task.metric is self.metric:
            task.__dict__["_last"] = self._last
        if "anatomy" in self.__dict__:
            task.__dict__["anatomy"] = self.anatomy
        return task

    def __repr__(self) -> str:
        sites: Sequence[str] = tuple(self.saes)
        return (
            f"Task({self.behaviour or 'a metric'} on {self.prompts}, SAEs at {', '.join(sites) or 'no site'})"
        )
