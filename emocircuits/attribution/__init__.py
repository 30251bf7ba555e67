"""Attribution: how much each SAE feature and error node of a model moves a metric from its corrupt to its
clean value.

A method is one file and one line here; `METHODS` is the registry.
"""

from emocircuits.attribution.attribute import attribute
from emocircuits.attribution.edge_parts import edge_parts
from emocircuits.attribution.edges import edge_effects
from emocircuits.attribution.methods.attribution_patching import attribution_patching
from emocircuits.attribution.methods.card import METHODS, MethodCard
from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.attribution.methods.integrated_gradients import integrated_gradients
from emocircuits.attribution.methods.steering_attribution import Push
from emocircuits.attribution.qk_attribution import qk_attribution
from emocircuits.passes.baselines import BASELINES, Baseline
from emocircuits.passes.pairs import Metric, PairBatch, group_pairs

__all__ = [
    "BASELINES",
    "METHODS",
    "Baseline",
    "Metric",
    "MethodCard",
    "PairBatch",
    "Push",
    "attribute",
    "attribution_patching",
    "edge_effects",
    "edge_parts",
    "exact_patching",
    "group_pairs",
    "integrated_gradients",
    "qk_attribution",
]
