"""What a model family is: the few facts that differ between architectures and that nothing else may assume."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emocircuits.registry import Registry
from emocircuits.sites import residual_site


@dataclass(frozen=True)
class FamilyCard:
    """One model family.

    Attributes:
        name: name in the registry.
        architecture: Hugging Face class that TransformerLens has an adapter for.
        model_type: `model_type` of its Hugging Face configuration.
        bos: "prepend" when the family is trained with a BOS token in front, "never" when it has none.
        tiny: configuration of a random test model, besides what all families share (see `models.tiny`).
    """

    name: str
    architecture: str
    model_type: str
    bos: Literal["prepend", "never"] = "prepend"
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def residual_sites(self, n_layers: int) -> tuple[str, ...]:
        """The residual stream after each block, first block first."""
        return tuple(residual_site(layer) for layer in range(n_layers))


FAMILIES: Registry[FamilyCard] = Registry("model family")
