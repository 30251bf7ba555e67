"""Behaviours: what a model may do under pressure, as prompts ending right before the act, words and a metric.

Adding a behaviour is one file with its card, its prompts as JSONL in `prompts/`, and one line here.
"""

from emocircuits.behaviours import blackmail, deception, preference, reward_hacking, sycophancy  # noqa: F401
from emocircuits.behaviours.behaviour import BEHAVIOURS, Behaviour, Material, PromptPair

__all__ = ["BEHAVIOURS", "Behaviour", "Material", "PromptPair"]
