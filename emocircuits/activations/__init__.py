"""Activations: texts go in, an activation store comes out."""

from emocircuits.lazy import lazy

_NAMES = {
    "LabelledText": "prompts",
    "StoreSettings": "residuals",
    "collect": "residuals",
    "label_table": "prompts",
}
__all__ = list(_NAMES)
__getattr__ = lazy(__name__, _NAMES)
