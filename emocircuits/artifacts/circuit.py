"""A circuit: nodes, the edges between them, how well it was tested, and the same circuit unrolled over one
prompt.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx

from emocircuits.artifacts import answers
from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.errors import UserError
from emocircuits.io.documents import read_json, write_json
from emocircuits.names import NodeId, format_node, parse_node
from emocircuits.provenance import Provenance, sha256_json
from emocircuits.sanitise import finite, sanitise_json

SCHEMA, VERSION = "emocircuits.circuit", 1


@dataclass(frozen=True)
class Node:
    """One node of a circuit. Build it with `Node.of`, which fills the parts that the id already says.

    Attributes:
        id: node id (`emocircuits.names`).
        kind, layer, site, feature, position: the parts of the id.
        label: short text for people.
        effect: attributed effect on the metric; positive means that patching the clean value into the corrupt
            run raises the metric.
        ci_low, ci_high: interval of the effect over prompts.
        verified: effect measured by a real intervention, or None where none was run.
        activation: activation on the clean run (at `position`, or the mean over prompts), or None.
        details: what a feature card shows: `emotions` [{emotion, delta, cosine, auroc, q_value}],
            `top_tokens`, `bottom_tokens`, `examples` [{tokens, values}], `peak_position`.
    """

    id: str
    kind: str
    layer: int | None = None
    site: str | None = None
    feature: int | None = None
    position: int | None = None
    label: str = ""
    effect: Real | None = None
    ci_low: Real | None = None
    ci_high: Real | None = None
    verified: Real | None = None
    activation: Real | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = parse_node(self.id)
        for name in ("kind", "layer", "site", "feature", "position"):
            if getattr(self, name) != getattr(parts, name):
                raise UserError(
                    f"node {self.id} says {name} {getattr(self, name)!r}", expected=repr(getattr(parts, name))
                )
        _set(
            self,
            label=sanitise_json(self.label, f"label of {self.id}"),
            details=sanitise_json(self.details, f"details of {self.id}"),
        )
        for name in ("effect", "ci_low", "ci_high", "verified", "activation"):
            _set(self, **{name: finite(getattr(self, name), f"{name} of node {self.id}")})

    @classmethod
    def of(cls, node: NodeId | str, **values: Any) -> "Node":
        """A node whose kind, layer, site, feature and position are read from its id."""
        parts = parse_node(node) if isinstance(node, str) else node
        return cls(
            id=format_node(parts),
            kind=parts.kind,
            layer=parts.layer,
            site=parts.site,
            feature=parts.feature,
            position=parts.position,
            **values,
        )


@dataclass(frozen=True)
class Edge:
    """One link: how much of the metric's change runs from `source` through `target`.

    Attributes:
        source, target: node ids; the target is the later node.
        weight: attributed effect of the link, same sign convention as `Node.effect`.
        ci_low, ci_high: interval over prompts.
        verified: effect measured by a real intervention on the link, or None.
    """

    source: str
    target: str
    weight: Real
    ci_low: Real | None = None
    ci_high: Real | None = None
    verified: Real | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "ci_low", "ci_high", "verified"):
            _set(
                self,
                **{name: finite(getattr(self, name), f"{name} of the link {self.source} -> {self.target}")},
            )


@dataclass(frozen=True, eq=True)
class CircuitGraph:
    """Nodes and links of one behaviour's circuit, with the scores that say how far to trust it.

    Attributes:
        behaviour: name of the behaviour.
        nodes, edges: the circuit; ids are unique and every edge joins two known nodes.
        tokens: tokens of the example prompt, or () for a circuit without positions.
        example: the same circuit unrolled over the positions of one prompt.
        scores: faithfulness, completeness, …
        thresholds: what pruned it.
        conventions: method, sign, baseline.
        provenance: what made it.
    """

    behaviour: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    tokens: tuple[str, ...] = ()
    example: "CircuitGraph | None" = None
    scores: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)
    conventions: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        _set(
            self,
            nodes=tuple(self.nodes),
            edges=tuple(self.edges),
            tokens=tuple(sanitise_json(text, "a token") for text in self.tokens),
        )
        for name in ("scores", "thresholds", "conventions"):
            _set(self, **{name: sanitise_json(getattr(self, name), name)})
        _refuse_twice((node.id for node in self.nodes), "node")
        _refuse_twice((f"{edge.source} -> {edge.target}" for edge in self.edges), "link")
        known = {node.id for node in self.nodes}
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in known:
                    raise UserError(f"the link {edge.source} -> {edge.target} names the unknown node '{end}'")
            if edge.source == edge.target:
                raise UserError(f"the node {edge.source} has a link to itself")
        for node in self.nodes:
            if self.tokens and node.position is not None and node.position >= len(self.tokens):
                raise UserError(f"node {node.id} lies outside the prompt of {len(self.tokens)} tokens")
        if self.example is not None and self.example.example is not None:
            raise UserError("an example circuit has an example of its own", expected="one level")

    def node(self, node_id: str) -> Node:
        """The node of that id.

        Raises:
            UserError: no such node.
        """
        match = next((node for node in self.nodes if node.id == node_id), None)
        if match is None:
            raise UserError(f"the circuit of {self.behaviour} has no node '{node_id}'")
        return match

    @property
    def content_hash(self) -> str:
        """Hash of everything but the provenance."""
        value = self.to_dict()
        del value["provenance"]
        return sha256_json(value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; fields that say nothing (None, empty) are left out."""
        value: dict[str, Any] = {
            "behaviour": self.behaviour,
            "tokens": list(self.tokens),
            "nodes": [_compact(node) for node in self.nodes],
            "edges": [_compact(edge) for edge in self.edges],
            "scores": self.scores,
            "thresholds": self.thresholds,
            "conventions": self.conventions,
            "provenance": self.provenance.to_dict(),
        }
        if self.example is not None:
            value["example"] = self.example.to_dict()
        return value

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "CircuitGraph":
        """The inverse of `to_dict`.

        Raises:
            UserError: a field is missing or has an unknown name.
        """
        try:
            example = value.get("example")
            return cls(
                behaviour=value["behaviour"],
                nodes=tuple(Node.of(item.pop("id"), **item) for item in map(dict, value["nodes"])),
                edges=tuple(Edge(**item) for item in value["edges"]),
                tokens=tuple(value["tokens"]),
                example=cls.from_dict(example) if example else None,
                scores=value["scores"],
                thresholds=value["thresholds"],
                conventions=value["conventions"],
                provenance=Provenance.from_dict(value["provenance"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"the circuit document is not whole ({error})", cure="run the circuit stage again"
            ) from error

    def save(self, path: str | Path) -> None:
        """Writes the circuit as JSON, atomically."""
        write_json(path, self.to_dict(), schema=SCHEMA, version=VERSION)

    @classmethod
    def load(cls, path: str | Path) -> "CircuitGraph":
        """Reads a file written by `save`."""
        return cls.from_dict(read_json(path, schema=SCHEMA, version=VERSION))

    def to_networkx(self) -> nx.DiGraph:
        """A directed graph with plain attributes; fields that say nothing (None, empty) are left out."""
        graph = nx.DiGraph(
            behaviour=self.behaviour,
            **{
                name: getattr(self, name)
                for name in ("scores", "thresholds", "conventions")
                if getattr(self, name)
            },
        )
        if self.tokens:
            graph.graph["tokens"] = list(self.tokens)
        for node in self.nodes:
            values = {
                name: value
                for name, value in asdict(node).items()
                if name != "id" and value not in (None, {})
            }
            graph.add_node(node.id, **values)
        for edge in self.edges:
            values = _compact(edge)
            graph.add_edge(values.pop("source"), values.pop("target"), **values)
        return graph

    @classmethod
    def from_attribution(cls, result: AttributionResult, **options: Any) -> "CircuitGraph":
        """The circuit of what is strong for certain in an attribution; needs no model.

        Args:
            result: what `attribute` gave.
            **options: `node_threshold`, `edge_threshold`, `max_nodes`, `connected`, `seed` and further fields
                of the circuit; see `emocircuits.circuits.from_attribution.from_attribution`.
        """
        return _circuits("from_attribution").from_attribution(result, **options)

    def verify(
        self,
        model: Any,
        clean: Any = None,
        corrupt: Any = None,
        metric: Callable[..., Any] | None = None,
        saes: Mapping[str, Any] | None = None,
        budget: int | None = None,
    ) -> "CircuitGraph":
        """The same circuit with real effects of nodes and edges.

        Args:
            model: a `Task`, which says all but the budget, or any TransformerLens object.
            clean, corrupt: token ids `(prompt, pos)`, pairs row by row, or one sequence per prompt.
            metric: logits -> one value per prompt; needs no gradient.
            saes: site -> SAE, where the circuit has features.
            budget: passes over all prompts that may be spent; None verifies everything.
        """
        given = (model, clean, corrupt, metric)
        return _circuits("given").verified_circuit(self, given, saes, budget)

    def faithfulness(
        self,
        model: Any,
        clean: Any = None,
        corrupt: Any = None,
        metric: Callable[..., Any] | None = None,
        saes: Mapping[str, Any] | None = None,
        ablation: str = "resample",
        *,
        errors: str = "chosen",
    ) -> answers.Faithfulness:
        """How much of the metric's change is left when everything outside the circuit is ablated, for real.

        Args:
            model: a `Task`, which says all but the keywords, or any TransformerLens object.
            clean, corrupt: token ids `(prompt, pos)`, pairs row by row, best not those the circuit was found
                on. `mean` and `zero` need no pairs: `corrupt` may have any shape for `mean` (it is averaged
                over), and be None for `zero`.
            metric: logits -> one value per prompt.
            saes: site -> SAE, where the circuit has features.
            ablation: `resample`, `mean` or `zero`.
            errors: `chosen` (as the circuit says), `kept` or `ablated` (all error nodes).
        """
        given = (model, clean, corrupt, metric)
        return _circuits("given").circuit_faithfulness(self, given, saes, ablation, errors)

    def paths(self, source: str, target: str, k: int = 5) -> tuple[answers.Path, ...]:
        """The k paths along which most runs, by absolute amount, strongest first."""
        return _circuits("paths").strongest_paths(self, source, target, k)

    def _repr_html_(self) -> str:
        """The live viewer in a notebook and in documentation: a self-contained iframe."""
        return _drawing("page").iframe(self)

    def widget(self, **options: Any) -> Any:
        """The live viewer as an anywidget whose `state` (pins, groups, selection) Python reads and sets.

        Args:
            **options: `evidence` (a `CircuitEvidence`) and `height` of the canvas in pixels.

        Raises:
            UserError: the extra `widgets` is not installed.
        """
        return _drawing("widget").circuit_widget(self, **options)

    def __repr__(self) -> str:
        example = f", example of {len(self.example.tokens)} tokens" if self.example else ""
        return f"CircuitGraph({self.behaviour}: {len(self.nodes)} nodes, {len(self.edges)} edges{example})"


def _circuits(name: str) -> ModuleType:
    """A module of `circuits`, whose functions the methods of a circuit are thin forms of: it needs torch and
    lies above this one, so it is only looked up when somebody asks.
    """
    return import_module(f"emocircuits.circuits.{name}")


def _drawing(name: str) -> ModuleType:
    """A module that draws circuits: it lies above this one and is only looked up when somebody wants to see
    something.
    """
    return import_module(f"emocircuits.viewer.{name}")


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"the {what} {name} occurs twice in a circuit")
        seen.add(name)


def _compact(item: Node | Edge) -> dict[str, Any]:
    derived = ("kind", "layer", "site", "feature", "position") if isinstance(item, Node) else ()
    values = {part.name: getattr(item, part.name) for part in fields(item) if part.name not in derived}
    return {
        name: value for name, value in values.items() if value is not None and value != {} and value != ""
    }


def _set(value: Any, **changes: Any) -> None:
    for name, change in changes.items():
        object.__setattr__(value, name, change)
