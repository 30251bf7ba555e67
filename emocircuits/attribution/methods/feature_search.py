"""Features proposed by integrated gradients, decided by real patches within a budget of passes; then their
edges, the same way.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult, EdgeEffects
from emocircuits.attribution.edges import counted_edge_effects
from emocircuits.attribution.methods.exact_edges import exact_edges
from emocircuits.attribution.methods.exact_patching import exact_patching
from emocircuits.attribution.methods.integrated_gradients import STEPS, integrated_gradients
from emocircuits.errors import UserError
from emocircuits.numerics import generator
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch

NODE_SHARE, AUDIT_SHARE = 0.4, 0.1  # of what the gradients leave of the budget
DEFAULT_PATCHES = 400


def verified_features(
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    *,
    edges: bool = True,
    budget: int | None = None,
    max_edge_nodes: int = 100,
    behaviour: str = "",
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> AttributionResult:
    """Effects of all features and errors, the strongest verified; edges among the causal ones, the strongest
    verified.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE.
        batches: prompt pairs, grouped by length.
        metric: logits -> one value per prompt.
        edges: whether edges are wanted, too.
        budget: passes over all prompts that may be spent; by default the gradients and 400 patches.
        max_edge_nodes: most nodes that edges are drawn among, the strongest verified ones.
        behaviour: name stored in the result.
        seed: seed of the audit.
        max_tokens: tokens per pass.

    Returns:
        `effect` of a node or edge is the verified effect where there is one; `conventions["missed"]` has what
        random unselected nodes did.

    Raises:
        UserError: a budget that does not pay for the gradients and one patch.
    """
    n_sites = len(saes)
    gradients = 2 + 2 * STEPS * n_sites
    budget = gradients + DEFAULT_PATCHES if budget is None else budget
    steps = min(STEPS, (budget // 2 - 2) // (2 * n_sites))
    if steps < 1:
        raise UserError(
            f"a budget of {budget} passes",
            expected=f"at least {2 * (2 + 2 * n_sites)} for {n_sites} sites",
            cure="raise the budget or ask for attribution_patching",
        )
    found = integrated_gradients(
        model, saes, batches, metric, behaviour=behaviour, steps=steps, max_tokens=max_tokens
    )
    room = budget - found.passes
    n_nodes = min(len(found.nodes), int(room * (NODE_SHARE if edges else 1 - AUDIT_SHARE)))
    order = np.argsort(-np.abs(found.effects.mean(0)), kind="stable")
    n_audit = min(len(order) - n_nodes, int(room * AUDIT_SHARE))
    drawn = generator(seed, "audit").permutation(order[n_nodes:])[:n_audit]
    chosen = np.concatenate([order[:n_nodes], drawn])
    exact = exact_patching(
        model, saes, batches, metric, nodes=[found.nodes[place] for place in chosen], max_tokens=max_tokens
    )
    effects, verified = found.effects.copy(), np.full(len(found.nodes), np.nan)
    effects[:, chosen], verified[chosen] = exact.effects, exact.effects.mean(0)
    missed = np.abs(exact.effects[:, n_nodes:]).mean(0)
    conventions = {
        **found.conventions,
        "method": "verified",
        "verified": "effect of a real patch in the corrupt run",
        "missed": json.dumps(
            {
                "unverified_nodes": int(np.isnan(verified).sum()),
                "audited_nodes": len(drawn),
                "largest_audited_effect": float(missed.max(initial=0.0)),
                "share_that_may_exceed_it": float(min(1.0, 3 / max(1, len(drawn)))),
            }
        ),
    }
    result = replace(
        found,
        effects=effects.astype(found.effects.dtype),
        verified=verified,
        conventions=conventions,
        passes=found.passes + exact.passes,
    )
    return (
        _with_edges(result, model, saes, batches, metric, budget, max_edge_nodes, steps, max_tokens)
        if edges
        else result
    )


def _with_edges(
    result: AttributionResult,
    model: Any,
    saes: Mapping[str, Any],
    batches: Sequence[PairBatch],
    metric: Metric,
    budget: int,
    most: int,
    steps: int,
    max_tokens: int,
) -> AttributionResult:
    strength = np.where(np.isnan(result.verified), 0.0, np.abs(result.effects).mean(0))
    causal = np.sort(np.argsort(-strength, kind="stable")[: min(most, int((strength > 0).sum()))])
    if not len(causal):
        return result
    names = [result.nodes[place] for place in causal]
    links, spent = counted_edge_effects(
        model, saes, batches, metric, names, steps=steps, max_tokens=max_tokens
    )
    sources, slots = causal[links.sources], np.append(causal, len(result.nodes))
    targets, effects = slots[links.targets], links.effects.copy()
    order = np.argsort(-np.abs(effects.mean(0)), kind="stable")[: max(0, budget - result.passes - spent)]
    texts = (*result.nodes, result.slots[-1])
    values, patched = (
        exact_edges(
            model,
            saes,
            batches,
            metric,
            [(texts[sources[e]], texts[targets[e]]) for e in order],
            max_tokens=max_tokens,
        )
        if len(order)
        else (np.zeros((len(effects), 0)), 0)
    )
    verified = np.full(effects.shape[1], np.nan)
    effects[:, order], verified[order] = values, values.mean(0)
    return replace(
        result,
        edges=EdgeEffects.of(sources, targets, effects, len(result.nodes), verified),
        passes=result.passes + spent + patched,
    )
