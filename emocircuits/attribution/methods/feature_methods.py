"""The methods of `attribute` over SAE features and errors: nodes, and edges between the strongest nodes of
adjacent sites.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.edges import counted_edge_effects
from emocircuits.attribution.methods.attribution_patching import attribution_patching
from emocircuits.attribution.methods.exact_edges import exact_edges
from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.attribution.methods.feature_search import verified_features
from emocircuits.attribution.methods.integrated_gradients import STEPS, integrated_gradients
from emocircuits.attribution.methods.relp import relp_rules
from emocircuits.attribution.methods.steered_features import feature_shares, steered_run
from emocircuits.attribution.methods.steering_attribution import STEPS as STRENGTHS
from emocircuits.attribution.methods.steering_attribution import Push, mean_difference
from emocircuits.errors import UserError
from emocircuits.graphs.linearise import PairRun
from emocircuits.names import NodeId, format_node, layer_of, parse_node
from emocircuits.passes.anatomy import open_anatomy
from emocircuits.passes.pairs import Metric, PairBatch
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

BY_POSITION = ("attribution_patching", "integrated_gradients", "relp", "exact")


@dataclass(frozen=True, eq=False)
class Question:
    """What `attribute` was asked about features; see there.

    Attributes:
        most: most nodes that edges are drawn among.
    """

    model: Any
    saes: Mapping[str, Any]
    batches: Sequence[PairBatch]
    metric: Metric
    edges: bool
    positions: bool
    steps: int | None
    most: int
    budget: int | None
    push: Push | None
    behaviour: str
    max_tokens: int

    @property
    def given(self) -> tuple[Any, Mapping[str, Any], Sequence[PairBatch], Metric]:
        """What every method is called with."""
        return self.model, self.saes, self.batches, self.metric

    @property
    def options(self) -> dict[str, Any]:
        """What every method is told."""
        return {"behaviour": self.behaviour, "max_tokens": self.max_tokens}

    @property
    def dictionaries(self) -> dict[str, Dictionary]:
        """The SAEs in the order of their layers."""
        return open_dictionaries(self.saes, getattr(self.model.cfg, "d_model", None))


def strongest(result: AttributionResult, most: int) -> list[int]:
    """Places of the nodes with the largest mean effects."""
    order = np.argsort(-np.abs(result.effects.mean(0)), kind="stable")
    return [int(place) for place in order[:most]]


def joined(
    result: AttributionResult, asked: Question, path: int = 0, run_batch: Callable[..., PairRun] | None = None
) -> AttributionResult:
    """The same result with the edges among its strongest nodes."""
    if not asked.edges:
        return result
    chosen = np.sort(strongest(result, asked.most))
    links, spent = counted_edge_effects(
        *asked.given,
        [result.nodes[place] for place in chosen],
        steps=path,
        max_tokens=asked.max_tokens,
        run_batch=run_batch,
    )
    ends = np.append(chosen, len(result.nodes))
    edges = EdgeEffects.of(chosen[links.sources], ends[links.targets], links.effects, len(result.nodes))
    return replace(result, edges=edges, passes=result.passes + spent)


def by_gradient(asked: Question) -> AttributionResult:
    """Attribution patching."""
    return joined(attribution_patching(*asked.given, positions=asked.positions, **asked.options), asked)


def by_path(asked: Question) -> AttributionResult:
    """Integrated gradients over each site's activations."""
    steps = STEPS if asked.steps is None else asked.steps
    return joined(
        integrated_gradients(*asked.given, positions=asked.positions, steps=steps, **asked.options),
        asked,
        path=steps,
    )


def by_rules(asked: Question) -> AttributionResult:
    """RelP."""
    with relp_rules(open_anatomy(asked.model, asked.batches[0].corrupt)):
        found = by_gradient(asked)
    return replace(
        found,
        conventions={
            **found.conventions,
            "method": "relp",
            "gradient": f"{found.conventions['gradient']}, rules of relevance propagation",
        },
    )


def by_search(asked: Question) -> AttributionResult:
    """Gradients, then real patches within a budget."""
    return verified_features(
        *asked.given, edges=asked.edges, budget=asked.budget, max_edge_nodes=asked.most, **asked.options
    )


def by_patches(asked: Question) -> AttributionResult:
    """Real patches of everything."""
    nodes, passes = None, 0
    if asked.positions:
        whole = attribution_patching(*asked.given, positions=True, **asked.options)
        nodes, passes = whole.nodes, whole.passes
    found = exact_patching(*asked.given, nodes=nodes, **asked.options)
    found = replace(found, verified=found.effects.mean(0), passes=found.passes + passes)
    if not asked.edges:
        return found
    chosen = np.sort(strongest(found, asked.most))
    sites = {int(place): parse_node(found.nodes[place]).site for place in chosen}
    order = list(asked.dictionaries)
    following = dict(zip(order, order[1:], strict=False))
    pairs = [(up, down) for up in sites for down in sites if following.get(sites[up]) == sites[down]]
    pairs += [(up, len(found.nodes)) for up in sites if sites[up] == order[-1]]
    values, spent = exact_edges(
        *asked.given, [(found.nodes[u], found.slots[d]) for u, d in pairs], max_tokens=asked.max_tokens
    )
    sources, targets = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = EdgeEffects.of(sources, targets, values, len(found.nodes), values.mean(0))
    return replace(found, edges=links, passes=found.passes + spent)


def by_push(asked: Question) -> AttributionResult:
    """Steering attribution: of the corrupt prompts, which are pushed.

    Raises:
        UserError: no site behind the push.
    """
    dictionaries, steps = asked.dictionaries, STRENGTHS if asked.steps is None else asked.steps
    push = asked.push or mean_difference(
        asked.model,
        asked.batches,
        asked.metric,
        f"blocks.{layer_of(next(iter(dictionaries)))}.hook_resid_pre",
    )
    kind = {"hook_resid_pre": 0, "hook_resid_mid": 2, "hook_resid_post": 4}
    place = {
        site: 4 * layer_of(site) + kind.get(site.rsplit(".", 1)[1], 1) for site in (*dictionaries, push.site)
    }
    behind = {site: one for site, one in dictionaries.items() if place[site] >= place[push.site]}
    if not behind:
        raise UserError(
            f"no SAE at or behind the push at {push.site}",
            expected=f"a push before {', '.join(dictionaries)}",
        )
    asked = replace(asked, saes=behind)
    found = feature_shares(
        asked.model, behind, asked.batches, asked.metric, push, steps=steps, max_tokens=asked.max_tokens
    )
    names, effects = [], []
    for site, shares in found.sites.items():
        for part in np.flatnonzero((shares != 0).any(0)):
            error = part == behind[site].d_sae
            names.append(
                format_node(
                    NodeId("error" if error else "feature", site=site, feature=None if error else int(part))
                )
            )
            effects.append(shares[:, part])
    remainder = {site: float(found.remainder(site).mean()) for site in found.sites}
    conventions = {
        "method": "steering",
        "sign": "positive: what the push changes raises the metric",
        "baseline": "unsteered run",
        "gradient": f"averaged over {steps} midpoints of the strength",
        "positions": "summed",
        "site": push.site,
        "push": push.name,
        "remainder": ", ".join(f"{site} {value:.3g}" for site, value in remainder.items()),
    }
    result = AttributionResult(
        asked.behaviour,
        tuple(names),
        np.stack(effects, axis=1),
        found.steered,
        found.plain,
        conventions,
        found.passes,
    )
    return joined(
        result,
        asked,
        run_batch=lambda some, chunk: steered_run(asked.model, some, chunk, asked.metric, push, steps),
    )


FEATURE_METHODS: dict[str, Callable[[Question], AttributionResult]] = {
    "attribution_patching": by_gradient,
    "integrated_gradients": by_path,
    "relp": by_rules,
    "steering": by_push,
    "verified": by_search,
    "exact": by_patches,
}
"""By name; `atp_star` needs the graph of components and is put together in `attribute`."""
