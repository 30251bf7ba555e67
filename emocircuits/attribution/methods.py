"""The registry of attribution methods: each maps (model, saes, prompt pairs, metric) to an `AttributionResult`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emocircuits.artifacts.attribution_result import AttributionResult
from emocircuits.attribution.pairs import Metric, PairBatch
from emocircuits.registry import Registry


class Attribute(Protocol):
    """What every method can be called with; a method may take more keywords."""

    def __call__(self, model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], metric: Metric, *,
                 behaviour: str = "", max_tokens: int = ...) -> AttributionResult:
        """Effects of all nodes at all sites."""


@dataclass(frozen=True)
class MethodCard:
    """An attribution method.

    Attributes:
        name: its name.
        run: the function.
        exact: whether its effects are real interventions.
        description: one line.
    """

    name: str
    run: Attribute
    exact: bool
    description: str


METHODS: Registry[MethodCard] = Registry("attribution method")
