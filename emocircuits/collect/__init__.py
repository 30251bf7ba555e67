"""Collecting: texts go in, an activation store comes out."""

from typing import Any

from emocircuits.collect.prompts import LabelledText, prompt_table

__all__ = ["LabelledText", "collect_residuals", "prompt_table"]


def __getattr__(name: str) -> Any:
    if name == "collect_residuals":
        from emocircuits.collect.residuals import collect_residuals

        return collect_residuals
    raise AttributeError(f"module 'emocircuits.collect' has no attribute '{name}'")
