"""Circuits: choosing nodes and edges from attribution, and judging the choice by real interventions on
held-out prompts.
"""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.circuits.build import circuit_from_attribution, find_circuit, select_nodes, with_edges
from emocircuits.circuits.compare import Agreement, agreement, compare_effects, nodes_to_verify
from emocircuits.circuits.faithfulness import EVERYTHING, NodeSet, circuit_metric, refuse_overlap
from emocircuits.circuits.paths import Path, strongest_paths
from emocircuits.circuits.prune import prune
from emocircuits.circuits.quality import CircuitQuality, circuit_quality
from emocircuits.circuits.stability import Stability, stability
from emocircuits.circuits.unroll import unroll
from emocircuits.circuits.verbs import Faithfulness, faithfulness, from_attribution
from emocircuits.circuits.verify import verify

# artifacts know of no model, so what circuits can do with one is attached here
CircuitGraph.from_attribution = staticmethod(from_attribution)
CircuitGraph.faithfulness = faithfulness
CircuitGraph.paths = strongest_paths
CircuitGraph.verify = verify

__all__ = [
    "EVERYTHING",
    "Agreement",
    "CircuitGraph",
    "CircuitQuality",
    "Faithfulness",
    "NodeSet",
    "Path",
    "Stability",
    "agreement",
    "circuit_from_attribution",
    "circuit_metric",
    "circuit_quality",
    "compare_effects",
    "find_circuit",
    "nodes_to_verify",
    "prune",
    "refuse_overlap",
    "select_nodes",
    "stability",
    "strongest_paths",
    "unroll",
    "with_edges",
]
