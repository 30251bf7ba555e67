"""emocircuits: from emotion directions to the circuits that carry them to behaviour."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# What people reach for first; loaded when asked for, so that `import emocircuits` stays light.
_LAZY = {
    "EmotionDirections": "emocircuits.artifacts.emotion_directions",
    "FeatureMatches": "emocircuits.artifacts.feature_matches",
    "load_model": "emocircuits.models",
    "steering": "emocircuits.interventions.dial",
}
__all__ = ["EmotionDirections", "FeatureMatches", "load_model", "steering"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'emocircuits' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
