"""Graph JSON of Neuronpedia and circuit-tracer, from the circuit unrolled over one prompt.

Both viewers know transcoder features with exact linear links. Ours are residual SAE features with
attribution-patching links: they are written as `cross layer transcoder` because only that type gets a feature
card, and the truth is in `metadata.info.description` and `metadata.generation_settings`. The metric is a
difference of logits, not one token: it is a logit node with a virtual vocabulary index beyond the vocabulary,
as circuit-tracer does it.
"""

import json
import re
from functools import partial
from typing import Any
from urllib.parse import quote

from emocircuits.artifacts.circuit import CircuitGraph, Node
from emocircuits.errors import UserError, unknown
from emocircuits.export.exporter import EXPORTERS, Exporter
from emocircuits.sanitise import sanitise_text
from emocircuits.viewer.clusters import emotion_clusters
from emocircuits.viewer.influence import cumulative, influence
from emocircuits.viewer.layout import rank
from emocircuits.viewer.path_shares import emotions_of

TARGETS = ("neuronpedia", "circuit-tracer")
NODE_THRESHOLD = 0.8
PINNED = 10
DEFAULT_VOCABULARY = 1 << 24  # the virtual index when the circuit does not state its model's vocabulary size


def cantor(layer: int, feature: int) -> int:
    """The Cantor pairing that schema version 1 stores in `feature`."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def document(
    graph: CircuitGraph, *, target: str = "neuronpedia", slug: str | None = None, scan: str | None = None
) -> dict[str, Any]:
    """The graph as plain values.

    Args:
        graph: a circuit with an `example`, or one whose own nodes have positions.
        target: `neuronpedia` (scan is a plain name) or `circuit-tracer` (scan starts with `./`: no network
            call).
        slug, scan: name of the graph and of the model; default: behaviour and `conventions["model"]`.

    Raises:
        UserError: no positions, a prompt of one token, no SAE node, components, or a link that goes back or
            down.
    """
    if target not in TARGETS:
        raise unknown("graph target", target, TARGETS)
    shown = graph.example or graph
    features = _check(shown)
    layers = _layers(features)
    vocabulary = int(graph.conventions.get("d_vocab", DEFAULT_VOCABULARY))
    ids = {node.id: _node_id(node, layers, vocabulary) for node in shown.nodes}
    metric = next((node for node in shown.nodes if node.kind == "target"), None) or Node.of(
        "target/logit_diff", label="logit difference"
    )
    ids[metric.id] = _node_id(metric, layers, vocabulary, len(shown.tokens) - 1)
    shares = cumulative(
        influence(shown), [node.id for node in shown.nodes if node.kind in ("token", "target")]
    )
    nodes = [_embedding(position, text, shown) for position, text in enumerate(shown.tokens)]
    nodes += [_feature(node, ids[node.id], layers, shares[node.id]) for node in features]
    nodes.append(_logit(metric, ids[metric.id], graph, len(shown.tokens) - 1, layers, vocabulary))
    by_node = {node.id: node for node in (*shown.nodes, metric)}
    links = [
        {"source": ids[edge.source], "target": ids[edge.target], "weight": float(edge.weight)}
        for edge in shown.edges
        if _forward(by_node[edge.source], by_node[edge.target], len(shown.tokens))
    ]
    name = _name(slug or graph.behaviour)
    model = _name(scan or graph.conventions.get("model") or "emocircuits-model")
    return {
        "metadata": {
            "slug": name,
            "scan": f"./{model}" if target == "circuit-tracer" else model,
            "transcoder_list": [],
            "prompt_tokens": [sanitise_text(text) for text in shown.tokens],
            "prompt": sanitise_text("".join(shown.tokens)),
            "node_threshold": NODE_THRESHOLD,
            "schema_version": 1,
            "info": {
                "description": f"Circuit of the behaviour '{sanitise_text(graph.behaviour)}'. "
                "Nodes are residual-stream SAE features and SAE errors, written as transcoder "
                "features for the viewer; links are attribution-patching "
                "effects on the metric, not exact linear weights.",
                "generator": {
                    "name": "emocircuits",
                    "version": str(graph.provenance.settings.get("version", "")),
                },
            },
            "generation_settings": {
                "node_kind": "residual SAE feature",
                "edge_kind": "attribution patching, normalised",
                "influence": (
                    "w = 1 on the metric, rows of |weight| normalised to 1, summed "
                    "over paths; cumulative share"
                ),
                "site_of_layer": {str(layer): site for site, layer in layers.items()},
                "conventions": graph.conventions,
            },
            "pruning_settings": {"thresholds": graph.thresholds},
        },
        "qParams": {
            "pinnedIds": _pinned(features, ids, metric),
            "supernodes": _supernodes(features, ids),
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


def render(graph: CircuitGraph, target: str = "neuronpedia") -> bytes:
    """The file for one of `TARGETS`."""
    return json.dumps(
        document(graph, target=target), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


def page_query(value: dict[str, Any]) -> str:
    """The URL query that shows pins and supernodes: circuit-tracer's own page ignores those inside
    the file.
    """
    params = value["qParams"]
    return (
        f"?slug={quote(value['metadata']['slug'])}&pinnedIds={quote(','.join(params['pinnedIds']))}"
        f"&supernodes={quote(json.dumps(params['supernodes'], separators=(',', ':')))}"
    )


def _check(shown: CircuitGraph) -> list[Node]:
    if len(shown.tokens) < 2:
        raise UserError(
            f"the example prompt of {shown.behaviour} has {len(shown.tokens)} tokens",
            expected="at least 2",
            cure="export a circuit that was unrolled over an example prompt",
        )
    features = [node for node in shown.nodes if node.kind in ("feature", "error")]
    for node in shown.nodes:
        if node.kind == "component":
            raise UserError(
                f"the component {node.id} has no form in the graph JSON", expected="SAE features and errors"
            )
        if node.kind != "target" and node.position is None:
            raise UserError(
                f"node {node.id} has no position",
                cure="export a circuit that was unrolled over an example prompt",
            )
    if not features:
        raise UserError(f"the circuit of {shown.behaviour} has no SAE feature", expected="at least one")
    return features


def _layers(features: list[Node]) -> dict[str, int]:
    """Layer number of each site: the block, or the order of computation where a block has several sites."""
    sites = {node.site: rank(node) for node in features}
    blocks = [layer for layer, _ in sites.values()]
    if len(set(blocks)) == len(blocks) and max(blocks) >= 1:
        return {site: layer for site, (layer, _) in sites.items()}
    first = 1 if len(sites) == 1 else 0  # Neuronpedia needs a node above layer 0
    return {site: first + i for i, site in enumerate(sorted(sites, key=sites.get))}


def _node_id(node: Node, layers: dict[str, int], vocabulary: int, last: int = 0) -> str:
    if node.kind == "target":
        return f"{max(layers.values()) + 1}_{vocabulary}_{last}"
    if node.kind == "token":
        return f"E_{node.details.get('token_id', 0)}_{node.position}"
    return f"{layers[node.site]}_{-1 if node.kind == 'error' else node.feature}_{node.position}"


def _common(node_id: str, feature: int, layer: str, position: int, kind: str, label: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "jsNodeId": node_id,
        "feature": feature,
        "layer": layer,
        "ctx_idx": position,
        "feature_type": kind,
        "clerp": label,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
    }


def _embedding(position: int, text: str, shown: CircuitGraph) -> dict[str, Any]:
    node = next((n for n in shown.nodes if n.kind == "token" and n.position == position), None)
    number = node.details.get("token_id", 0) if node else 0
    value = _common(
        f"E_{number}_{position}", position, "E", position, "embedding", f'Emb: "{sanitise_text(text)}"'
    )
    return {**value, "jsNodeId": f"E_{number}-{position}"}


def _feature(node: Node, node_id: str, layers: dict[str, int], share: float) -> dict[str, Any]:
    layer = layers[node.site]
    error = node.kind == "error"
    value = _common(
        node_id,
        -1 if error else cantor(layer, node.feature),
        str(layer),
        node.position,
        "mlp reconstruction error" if error else "cross layer transcoder",
        sanitise_text(node.label or node.id),
    )
    return {
        **value,
        "influence": share,
        "activation": node.activation,
        "effect": node.effect,
        "effect_ci": [node.ci_low, node.ci_high],
        "verified_effect": node.verified,
    }


def _logit(
    metric: Node, node_id: str, graph: CircuitGraph, last: int, layers: dict[str, int], vocabulary: int
) -> dict[str, Any]:
    chance = float(metric.details.get("probability", graph.scores.get("clean_rate", 1.0)))
    label = re.sub(r"\s+", " ", sanitise_text(metric.label or "logit difference"))
    value = _common(
        node_id,
        vocabulary,
        str(max(layers.values()) + 1),
        last,
        "logit",
        f'Output "{label}" (p={chance:.3f})',
    )
    return {**value, "jsNodeId": f"L_{vocabulary}-{last}", "token_prob": chance, "is_target_logit": True}


def _forward(source: Node, target: Node, length: int) -> bool:
    positions = [length - 1 if node.kind == "target" else node.position for node in (source, target)]
    if rank(source) >= rank(target) or positions[0] > positions[1]:
        raise UserError(
            f"the link {source.id} -> {target.id} goes back",
            expected="links up in layer and not back in position",
        )
    return True


def _pinned(features: list[Node], ids: dict[str, str], metric: Node) -> list[str]:
    strongest = sorted(
        (node for node in features if node.kind == "feature"), key=lambda node: -abs(node.effect or 0.0)
    )
    return [ids[node.id] for node in strongest[:PINNED]] + [ids[metric.id]]


def _supernodes(features: list[Node], ids: dict[str, str]) -> list[list[str]]:
    """Pinned features grouped by the emotion cluster of their surest match (or that emotion), groups of two
    and more.
    """
    groups: dict[str, list[str]] = {}
    for node in sorted((n for n in features if n.kind == "feature"), key=lambda n: -abs(n.effect or 0.0))[
        :PINNED
    ]:
        if matches := emotions_of(node):
            label = emotion_clusters().get(matches[0], matches[0])
            groups.setdefault(sanitise_text(label), []).append(ids[node.id])
    return [[label, *members] for label, members in groups.items() if len(members) > 1]


def _name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(text)).strip("-") or "circuit"
    return name if len(name) > 1 else f"{name}-circuit"


for _target, _summary in (
    ("neuronpedia", "graph JSON for Neuronpedia"),
    ("circuit-tracer", "the same for circuit-tracer's own server"),
):
    EXPORTERS.add(Exporter(_target, _summary, f".{_target}.json", partial(render, target=_target)))
