"""What a circuit's features do on both prompts of a pair: their activation at every token."""

from collections.abc import Mapping, Sequence
from typing import Any

from emocircuits.artifacts.evidence import Corrupt
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import record_clean
from emocircuits.names import parse_node
from emocircuits.passes.pairs import PairBatch
from emocircuits.sae.dictionary import Dictionary

DIGITS = 4


def clean_and_corrupt(
    model: Any,
    dictionaries: Mapping[str, Dictionary],
    pair: PairBatch,
    nodes: Sequence[str],
    tokens: Sequence[str],
) -> Corrupt:
    """Activations of the feature nodes on one pair.

    Args:
        model: any TransformerLens object.
        dictionaries: site -> SAE.
        pair: exactly one prompt pair.
        nodes: node ids without position; those that are no features of these sites are left out.
        tokens: texts of the corrupt tokens.

    Raises:
        UserError: not one pair, or another number of token texts.
    """
    if len(pair) != 1 or len(tokens) != pair.corrupt.shape[1]:
        raise UserError(
            f"{len(pair)} pairs of {pair.corrupt.shape[1]} tokens with {len(tokens)} token texts",
            expected="one pair and a text for each of its corrupt tokens",
        )
    sides = []
    for one in (pair, PairBatch(pair.corrupt, pair.clean, pair.index)):
        streams = record_clean(model, dictionaries, one)
        sides.append({site: dictionary.encode(streams[site])[0] for site, dictionary in dictionaries.items()})
    found = {}
    for node in nodes:
        parts = parse_node(node)
        if parts.kind == "feature" and parts.site in dictionaries:
            found[node] = tuple(
                tuple(round(value, DIGITS) for value in side[parts.site][:, parts.feature].tolist())
                for side in sides
            )
    return Corrupt(tuple(tokens), found)
