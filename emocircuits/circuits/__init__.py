"""Circuits: choosing nodes and edges from attribution, and judging the choice by real interventions on held-out prompts."""

from emocircuits.circuits.build import circuit_from_attribution, find_circuit, select_nodes, with_edges
from emocircuits.circuits.compare import Agreement, agreement, compare_effects, nodes_to_verify
from emocircuits.circuits.faithfulness import (
    EVERYTHING, NodeSet, circuit_metric, evaluate_circuit, random_circuit, refuse_overlap,
)
from emocircuits.circuits.prune import prune
from emocircuits.circuits.stability import Stability, stability
from emocircuits.circuits.unroll import unroll

__all__ = ["EVERYTHING", "Agreement", "NodeSet", "Stability", "agreement", "circuit_from_attribution", "circuit_metric",
           "compare_effects", "evaluate_circuit", "find_circuit", "nodes_to_verify", "prune", "random_circuit",
           "refuse_overlap", "select_nodes", "stability", "unroll", "with_edges"]
