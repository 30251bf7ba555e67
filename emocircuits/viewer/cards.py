"""What the cards of features show."""

from collections.abc import Callable
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.feature_page import known_page
from emocircuits.names import format_node, parse_node
from emocircuits.viewer.compact import Texts, short
from emocircuits.viewer.path_shares import emotions_of


def add_cards(graph: CircuitGraph, details: dict[str, dict[str, Any]], texts: Texts) -> None:
    """Adds what feature cards show, once per node whatever its position; tokens become numbers of texts."""
    kept: dict[str, Callable[[Any], Any]] = {
        "top_tokens": lambda tokens: [texts(_token(token)) for token in tokens],
        "bottom_tokens": lambda tokens: [texts(_token(token)) for token in tokens],
        "examples": lambda examples: [
            {
                **{key: example[key] for key in ("text", "emotion", "kind") if key in example},
                "tokens": [texts(str(token)) for token in example.get("tokens", ())],
                "values": [short(value, 3) for value in example.get("values", ())],
            }
            for example in examples
        ],
        "neuronpedia": known_page,
        "emotions": lambda matches: [
            {key: _rounded(value) for key, value in match.items()} for match in matches
        ],
    }
    for node in graph.nodes:
        base = (
            format_node(parse_node(node.id).at(None))
            if node.kind in ("feature", "error", "component")
            else node.id
        )
        if not node.details or base in details:
            continue
        details[base] = {
            name: kept.get(name, lambda value: value)(value) for name, value in node.details.items()
        }
        if best := emotions_of(node):
            details[base]["best"] = best[0]


def _token(value: Any) -> str:
    return str(
        value[0]
        if isinstance(value, list | tuple)
        else value.get("token")
        if isinstance(value, dict)
        else value
    )


def _rounded(value: Any) -> Any:
    return short(value) if isinstance(value, float) else value
