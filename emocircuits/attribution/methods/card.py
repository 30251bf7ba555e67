"""The registry of attribution methods: each maps (model, saes, prompt pairs, metric) to an
`AttributionResult`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.registry import Registry

# (model, saes, batches, metric, *, behaviour="", max_tokens=…) -> effects of all nodes; a method may take
# more keywords
Attribute = Callable[..., AttributionResult]


@dataclass(frozen=True)
class MethodCard:
    """An attribution method.

    Attributes:
        name: its name.
        summary: one line.
        run: the function.
        exact: whether its effects are real interventions.
    """

    name: str
    summary: str
    run: Attribute
    exact: bool


METHODS: Registry[MethodCard] = Registry("attribution method")
