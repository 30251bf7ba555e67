"""Activations: texts go in, an activation store comes out."""

from typing import Any

from emocircuits.activations.prompts import LabelledText, label_table

__all__ = ["LabelledText", "StoreSettings", "collect_residuals", "label_table"]


def __getattr__(name: str) -> Any:
    if name in ("StoreSettings", "collect_residuals"):
        from emocircuits.activations import residuals

        return getattr(residuals, name)
    raise AttributeError(f"module 'emocircuits.activations' has no attribute '{name}'")
