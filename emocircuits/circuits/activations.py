"""How active the nodes of a circuit are: over many prompts, and token by token on both prompts of a pair."""

from collections.abc import Sequence

import torch

from emocircuits.artifacts.evidence import Corrupt
from emocircuits.errors import UserError
from emocircuits.graphs.feature_sides import site_streams
from emocircuits.graphs.site_nodes import nodes_by_site
from emocircuits.interventions.ablate import NodeValues
from emocircuits.names import parse_node
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.task import Task

DIGITS = 4


@torch.no_grad()
def active_nodes(task: Task) -> dict[str, int]:
    """Site -> features that fire on any clean or corrupt prompt of a task, and 1 for the error.

    Nodes that fire alike on both sides of every pair count, although they have no effect to attribute.
    """
    dictionaries = task.dictionaries
    fired = {
        site: torch.zeros(dictionary.d_sae, dtype=torch.bool, device=dictionary.decoder.device)
        for site, dictionary in dictionaries.items()
    }
    for batch in task.batches():
        for tokens in (batch.clean, batch.corrupt):
            for site, stream in site_streams(task, tokens).items():
                fired[site] |= (dictionaries[site].encode(stream) != 0).flatten(0, -2).any(0)
    return {site: int(mask.sum()) + 1 for site, mask in fired.items()}


@torch.no_grad()
def clean_activations(task: Task, nodes: Sequence[str]) -> dict[str, float]:
    """Mean over clean prompts of each node's largest activation over positions (of an error node: of its
    norm).
    """
    groups = nodes_by_site(nodes, task.dictionaries)
    sums: dict[str, float] = dict.fromkeys(nodes, 0.0)
    for batch in task.batches():
        streams = site_streams(task, batch.clean)
        for site, group in groups.items():
            held = NodeValues.of(task.dictionaries[site], streams[site])
            error = held.error.norm(dim=-1, keepdim=True)
            column = torch.where(group.feature < 0, held.features.shape[-1], group.feature)
            peaks = torch.cat([held.features, error], dim=-1)[..., column].amax(1).sum(0)
            for node, value in zip(group.ids, peaks.tolist(), strict=True):
                sums[node] += value
    return {node: value / len(task.prompts) for node, value in sums.items()}


def pair_activations(task: Task, pair: PairBatch, nodes: Sequence[str], tokens: Sequence[str]) -> Corrupt:
    """Activations of feature nodes at every token of both prompts of one pair.

    Args:
        task: the model and its SAEs.
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
    sides = [feature_activations(task, prompt) for prompt in (pair.clean, pair.corrupt)]
    activations = {}
    for node in nodes:
        parts = parse_node(node)
        if parts.kind == "feature" and parts.site in task.saes:
            columns = (side[parts.site][:, parts.feature].tolist() for side in sides)
            activations[node] = tuple(tuple(round(value, DIGITS) for value in column) for column in columns)
    return Corrupt(tuple(tokens), activations)


@torch.no_grad()
def feature_activations(task: Task, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Activations of all features on the first of some prompts, by site: `(pos, d_sae)`."""
    streams = site_streams(task, tokens[:1])
    return {site: dictionary.encode(streams[site])[0] for site, dictionary in task.dictionaries.items()}
