"""emocircuits: from emotion directions to the circuits that carry them to behaviour.

`emocircuits.attribute` and what else is named in `__all__` load torch when they are first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "CircuitGraph": "emocircuits.circuits",
    "EmotionDirections": "emocircuits.artifacts.directions",
    "FeatureMatches": "emocircuits.artifacts.matches",
    "Push": "emocircuits.attribution.methods.steering_attribution",
    "attribute": "emocircuits.attribution.attribute",
    "edge_parts": "emocircuits.attribution.edge_parts",
    "load_model": "emocircuits.models.loader",
    "qk_attribution": "emocircuits.attribution.qk_attribution",
    "steering": "emocircuits.interventions.dial",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'emocircuits' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
