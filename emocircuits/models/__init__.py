"""Models: one card per family, one loader on TransformerLens' `TransformerBridge`, checks at load time.

Adding a family is one entry in `families`. `load_model` is imported on first use, as it
brings torch.
"""

from typing import Any

from emocircuits.models import families  # noqa: F401
from emocircuits.models.family import FAMILIES, FamilyCard

__all__ = ["FAMILIES", "Check", "FamilyCard", "LanguageModel", "load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":
        from emocircuits.models.loader import load_model

        return load_model
    if name in ("LanguageModel", "Check"):
        from emocircuits.models import language_model

        return getattr(language_model, name)
    raise AttributeError(f"module 'emocircuits.models' has no attribute '{name}'")
