"""Behaviours: what a model may do under pressure, as prompts ending right before the act, words and a metric.

Adding a behaviour is an entry in `cards.py` and its prompts as JSONL in `prompts/`.
"""

from emocircuits.behaviours import cards  # noqa: F401
from emocircuits.behaviours.behaviour import BEHAVIOURS, Behaviour
from emocircuits.behaviours.material import Material, PromptPair

__all__ = ["BEHAVIOURS", "Behaviour", "Material", "PromptPair"]
