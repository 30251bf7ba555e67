"""Effects of nodes and edges on a metric, kept per prompt."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from emocircuits.errors import UserError
from emocircuits.io import hdf5
from emocircuits.names import TARGET, parse_node
from emocircuits.numerics import bootstrap_interval
from emocircuits.provenance import Provenance

KIND, VERSION = "attribution-result", 2
EDGE_ARRAYS = ("indptr", "targets", "effects", "verified")


@dataclass(frozen=True, eq=False)
class EdgeEffects:
    """Edges in compressed sparse rows over the sources.

    Attributes:
        indptr: `indptr[i]:indptr[i + 1]` are the edges that leave node `i`.
        targets: where each edge ends, an index into the result's `slots`.
        effects: effect per prompt.
        verified: exact effect (mean over prompts) of the edges that were really patched, NaN elsewhere; None
            where none was.
    """

    indptr: np.ndarray
    targets: np.ndarray
    effects: Float[np.ndarray, "prompt edge"]
    verified: Float[np.ndarray, "edge"] | None = None

    @property
    def sources(self) -> np.ndarray:
        """Index of the node that each edge leaves."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    @classmethod
    def of(
        cls,
        sources: np.ndarray,
        targets: np.ndarray,
        effects: Float[np.ndarray, "prompt edge"],
        n_nodes: int,
        verified: Float[np.ndarray, "edge"] | None = None,
    ) -> "EdgeEffects":
        """Edges given as pairs, in any order."""
        order = np.lexsort((targets, sources))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=n_nodes))]).astype(np.int64)
        return cls(indptr, targets[order], effects[:, order], None if verified is None else verified[order])


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """Node effects (and edges) of one behaviour, per prompt, with the conventions that give them meaning.

    Attributes:
        behaviour: name of the behaviour.
        nodes: node ids (`emocircuits.names`).
        effects: effect of each node on the metric, per prompt.
        metric_clean, metric_corrupt: the metric on both runs.
        edges: edges between selected nodes, or None.
        verified: exact effect (mean over prompts) of the nodes that were really patched, NaN elsewhere.
        conventions: method, sign, baseline, positions.
        passes: model passes spent (one forward or backward of one batch row set counts one).
        slots: where edges can end: node ids, inputs of components such as `a2.h3<q>`, and `logits`; by
            default the nodes and `logits`.
    """

    behaviour: str
    nodes: tuple[str, ...]
    effects: Float[np.ndarray, "prompt node"]
    metric_clean: Float[np.ndarray, "prompt"]
    metric_corrupt: Float[np.ndarray, "prompt"]
    conventions: dict[str, str]
    passes: int
    edges: EdgeEffects | None = None
    verified: Float[np.ndarray, "node"] | None = None
    provenance: Provenance = field(default_factory=Provenance)
    slots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.slots:
            object.__setattr__(self, "slots", (*self.nodes, TARGET))
        shape = (len(self.metric_clean), len(self.nodes))
        if self.effects.shape != shape:
            raise UserError(f"effects have shape {self.effects.shape}", expected=f"(prompt, node) = {shape}")
        if len(set(self.nodes)) != len(self.nodes):
            raise UserError("a node id occurs twice in an attribution result")
        if not np.isfinite(self.effects).all():
            raise UserError(
                "attribution effects hold NaN or infinity", cure="check the metric and the model's precision"
            )

    @property
    def steps(self) -> int:
        """Midpoints that the gradients were integrated over; 0 where one gradient was taken."""
        return int(self.conventions.get("steps", 0))

    @property
    def unpatched_edges(self) -> Bool[np.ndarray, "edge"]:
        """Which edges a search predicted and never patched: what they hold is no effect."""
        if self.edges is None:
            return np.zeros(0, dtype=bool)
        if self.conventions.get("method") != "verified" or self.edges.verified is None:
            return np.zeros(len(self.edges.targets), dtype=bool)
        return np.isnan(self.edges.verified)

    def at_sites(self, sites: Collection[str]) -> "AttributionResult":
        """The node effects at some sites alone (without edges)."""
        inside = [place for place, node in enumerate(self.nodes) if parse_node(node).site in sites]
        verified = None if self.verified is None else self.verified[inside]
        return replace(
            self,
            nodes=tuple(self.nodes[place] for place in inside),
            effects=self.effects[:, inside],
            edges=None,
            verified=verified,
            slots=(),
        )

    def node_table(self) -> pd.DataFrame:
        """Mean effect per node with a bootstrap interval over prompts, strongest first."""
        low, high = bootstrap_interval(self.effects)
        verified = np.full(len(self.nodes), np.nan) if self.verified is None else self.verified
        table = pd.DataFrame(
            {
                "node": self.nodes,
                "effect": self.effects.mean(0),
                "ci_low": low,
                "ci_high": high,
                "verified": verified,
            }
        )
        return _strongest_first(table)

    def edge_table(self) -> pd.DataFrame:
        """Mean effect per edge with a bootstrap interval over prompts, strongest first.

        Edges that a search predicted and never patched come last: their effect is NaN, what was predicted
        stands in `predicted`.
        """
        columns = ["source", "target", "effect", "ci_low", "ci_high", "verified", "predicted"]
        if self.edges is None or not len(self.edges.targets):
            return pd.DataFrame(columns=columns)
        low, high = bootstrap_interval(self.edges.effects)
        unpatched, mean = self.unpatched_edges, self.edges.effects.mean(0)
        table = pd.DataFrame(
            {
                "source": np.array(self.nodes, dtype=object)[self.edges.sources],
                "target": np.array(self.slots, dtype=object)[self.edges.targets],
                "effect": np.where(unpatched, np.nan, mean),
                "ci_low": np.where(unpatched, np.nan, low),
                "ci_high": np.where(unpatched, np.nan, high),
                "verified": np.nan if self.edges.verified is None else self.edges.verified,
                "predicted": np.where(unpatched, mean, np.nan),
            }
        )
        return _strongest_first(table)[columns]

    def save(self, path: str | Path) -> None:
        """Writes the result atomically as HDF5."""
        with hdf5.create(path, KIND, VERSION) as file:
            hdf5.write_array(file, "nodes", self.nodes)
            for name in ("effects", "metric_clean", "metric_corrupt"):
                hdf5.write_array(file, name, getattr(self, name))
            if self.verified is not None:
                hdf5.write_array(file, "verified", self.verified)
            if self.edges is not None:
                group = file.create_group("edges")
                for name in EDGE_ARRAYS:
                    if getattr(self.edges, name) is not None:
                        hdf5.write_array(group, name, getattr(self.edges, name))
            hdf5.write_array(file, "slots", self.slots)
            hdf5.write_value(
                file,
                "about",
                {
                    "behaviour": self.behaviour,
                    "conventions": self.conventions,
                    "passes": self.passes,
                    "provenance": self.provenance.to_dict(),
                },
            )

    @classmethod
    def load(cls, path: str | Path) -> "AttributionResult":
        """Reads a file written by `save`."""
        with hdf5.open_stamped(path, KIND, VERSION) as file:
            about = hdf5.read_value(file, "about")
            edges = None
            if "edges" in file:
                edges = EdgeEffects(
                    **{
                        name: hdf5.read_array(file["edges"], name)
                        for name in EDGE_ARRAYS
                        if name in file["edges"]
                    }
                )
            verified = hdf5.read_array(file, "verified") if "verified" in file else None
            arrays = {
                name: hdf5.read_array(file, name) for name in ("effects", "metric_clean", "metric_corrupt")
            }
            return cls(
                nodes=tuple(hdf5.read_array(file, "nodes")),
                edges=edges,
                verified=verified,
                **arrays,
                behaviour=about["behaviour"],
                conventions=about["conventions"],
                passes=about["passes"],
                provenance=Provenance.from_dict(about["provenance"]),
                # not in version 1
                slots=tuple(hdf5.read_array(file, "slots")) if "slots" in file else (),
            )

    def __repr__(self) -> str:
        edges, unpatched = len(self.unpatched_edges), int(self.unpatched_edges.sum())
        never = f" ({unpatched} of them predicted, never patched)" if unpatched else ""
        return (
            f"AttributionResult({self.behaviour}: {len(self.nodes)} nodes, {edges} edges{never}, "
            f"{len(self.metric_clean)} prompts)"
        )


def _strongest_first(table: pd.DataFrame) -> pd.DataFrame:
    order = np.argsort(-table["effect"].abs().fillna(-1.0).to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)
