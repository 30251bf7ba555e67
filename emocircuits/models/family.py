"""What a model family is: the few facts that differ between architectures and that nothing else may
assume.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emocircuits.names import residual_site
from emocircuits.registry import Registry


@dataclass(frozen=True)
class ChatFormat:
    """How turns are written, for tokenizers that bring no chat template.

    Attributes:
        user: a user's turn, with `{text}`.
        assistant: an assistant's finished turn, with `{text}`.
        opening: what the assistant's next turn begins with; its last token is where the reply is decided.
        marker: a token of the format; a tokenizer that does not know it was not trained with this format.
    """

    user: str
    assistant: str
    opening: str
    marker: str


@dataclass(frozen=True)
class FamilyCard:
    """One model family.

    Attributes:
        name: name in the registry.
        summary: one line on what its members are.
        architecture: Hugging Face class that TransformerLens has an adapter for.
        model_type: `model_type` of its Hugging Face configuration.
        bos: "prepend" when the family is trained with a BOS token in front, "never" when it has none.
        tiny: configuration of a random test model, besides what all families share (see `models.tiny`).
        config: names in config.json that the family's code acts on, besides what all families share (see
            `models.config`).
        chat: how chats are written; None for families of base models.
        published: regular expression of the names under which SAEs of its models are published; "" where
            there are none.
    """

    name: str
    summary: str
    architecture: str
    model_type: str
    bos: Literal["prepend", "never"] = "prepend"
    tiny: Mapping[str, Any] = field(default_factory=dict)
    config: tuple[str, ...] = ()
    chat: ChatFormat | None = None
    published: str = ""

    def residual_sites(self, n_layers: int) -> tuple[str, ...]:
        """The residual stream after each block, first block first."""
        return tuple(residual_site(layer) for layer in range(n_layers))


FAMILIES: Registry[FamilyCard] = Registry("model family")


def family_of_name(model: str) -> FamilyCard | None:
    """The family of a model by the name under which SAEs of it are published; None where it is none of ours.

    Args:
        model: such as `gemma-2-2b` or `meta-llama/Llama-3.1-8B-Instruct`.
    """
    fits = [card for card in FAMILIES if card.published and re.search(card.published, model.lower())]
    assert len(fits) < 2, f"{model} is of {' and '.join(card.name for card in fits)}"
    return fits[0] if fits else None
