"""A look at a circuit: in the notebook, or as a page for the browser."""

import builtins
import tempfile
from dataclasses import replace
from pathlib import Path

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.circuits.feature_cards import card_label, matched_emotions
from emocircuits.io.atomic import write_text
from emocircuits.names import parse_node
from emocircuits.progress import say
from emocircuits.viewer.page import page


def view(
    circuit: CircuitGraph,
    matches: FeatureMatches | None = None,
    *,
    path: str | Path | None = None,
    evidence: CircuitEvidence | None = None,
) -> CircuitGraph:
    """Shows a circuit: as the last line of a notebook cell live, elsewhere as a page whose path is printed.

    Args:
        circuit: the circuit.
        matches: scores of features against emotions; features that have no card yet get those emotions and,
            where one matches, its name.
        path: the page's file; None writes none in a notebook, elsewhere one in a temporary folder.
        evidence: what was measured around the circuit (`CircuitEvidence`).

    Returns:
        The circuit with its labels; a notebook shows it.
    """
    labelled = circuit if matches is None else _with_emotions(circuit, matches)
    if path is None and not _in_a_notebook():
        path = Path(tempfile.mkdtemp(prefix="emocircuits-")) / f"circuit_{circuit.behaviour or 'view'}.html"
    if path is not None:
        write_text(path, page(labelled, evidence))
        say(f"the circuit as a page: {path}")
    return labelled


def _with_emotions(circuit: CircuitGraph, matches: FeatureMatches) -> CircuitGraph:
    return replace(circuit, nodes=tuple(_with_emotion(node, matches) for node in circuit.nodes))


def _with_emotion(node: Node, matches: FeatureMatches) -> Node:
    parsed = parse_node(node.id)
    if parsed.feature is None or node.details or parsed.site not in matches.sites:
        return node
    card = {"emotions": matched_emotions(matches, parsed.site, parsed.feature), "examples": []}
    return replace(node, label=card_label(node.id, card, node.label), details={"emotions": card["emotions"]})


def _in_a_notebook() -> bool:
    return hasattr(builtins, "__IPYTHON__")
