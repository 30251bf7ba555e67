"""One gradient where one gradient is enough: attribution patching, unless its own check against real patches
says that the path must be integrated.

    correlation >= 0.95 and a slope of predicted on real effects between 2/3 and 3/2, on the strongest nodes
    and a few random ones of a few pairs, decide for the gradient at the corrupt run

What was found stands in `conventions["check"]`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.attribution_patching import attribution_patching
from emocircuits.attribution.methods.card import METHODS, MethodCard, Request
from emocircuits.attribution.methods.exact import exact_effects
from emocircuits.attribution.methods.gradients import graph_of_components
from emocircuits.attribution.methods.integrated_gradients import (
    COMPONENT_STEPS,
    FEATURE_STEPS,
    integrated_gradients,
)
from emocircuits.graphs.features import FeatureGraph
from emocircuits.numerics import generator
from emocircuits.passes.gathered import whole_passes
from emocircuits.passes.prompt_pairs import PromptPairs

PAIRS, STRONGEST, RANDOM = 4, 12, 4  # pairs and nodes that are patched for real
LEAST_R, LEAST_SLOPE, MOST_SLOPE = 0.95, 2 / 3, 3 / 2


def checked(request: Request) -> AttributionResult:
    """Answers a request by attribution patching, or by integrated gradients where that is not enough.

    Raises:
        UserError: as `attribution_patching`.
        Failure: NaN.
    """
    found = attribution_patching(request)
    numbers, chosen = sorted(request.task.prompts.index), _nodes(found, request.seed)
    rows = np.arange(0, len(numbers), max(1, -(-len(numbers) // PAIRS)))
    pairs = tuple(request.task.prompts.pair(numbers[row]) for row in rows)
    few = replace(request, task=request.task.on(PromptPairs(pairs)), edges=False)
    if request.nodes == "features":
        graph = FeatureGraph(few.task, tuple(found.nodes[place] for place in chosen))
        real = exact_effects(graph, edges=False).effects.mean(0, dtype=np.float64)
    else:
        graph, _ = graph_of_components(few)
        places = [graph.nodes.index(found.nodes[place]) for place in chosen]
        real = exact_effects(graph, nodes=places, edges=False).effects.mean(0, dtype=np.float64)[places]
    predicted = found.effects[rows][:, chosen].mean(0, dtype=np.float64)
    r, slope = _agreement(predicted, real)
    enough = r >= LEAST_R and LEAST_SLOPE <= slope <= MOST_SLOPE
    told = f"r = {r:.3f} and slope {slope:.2f} against {len(chosen)} real patches of {len(rows)} pairs: " + (
        "one gradient is enough" if enough else "the path is integrated"
    )
    spent = len(chosen) * len(rows) / len(numbers)
    result = found if enough else integrated_gradients(request)
    passes = result.passes + spent + (0 if enough else found.passes)
    return replace(
        result,
        conventions=result.conventions | {"method": "checked", "check": told},
        passes=whole_passes(passes),
    )


def _nodes(found: AttributionResult, seed: int) -> Int[np.ndarray, "node"]:
    """Places of the strongest nodes, and of a few random ones among the rest."""
    order = np.argsort(-np.abs(found.effects.mean(0)), kind="stable")
    rest = order[STRONGEST:]
    drawn = generator(seed, "checked attribution").permutation(len(rest))[:RANDOM]
    return np.concatenate([order[:STRONGEST], rest[drawn]])


def _agreement(predicted: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Pearson's correlation, and the slope of predicted on real effects through the origin."""
    if not np.abs(real).max(initial=0) > 0 or len(real) < 3:
        return 0.0, 0.0
    slope = float(predicted @ real / (real @ real))
    centred = predicted - predicted.mean(), real - real.mean()
    spread = float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))
    return (float(centred[0] @ centred[1]) / spread if spread > 0 else 0.0), slope


METHODS.add(
    MethodCard(
        name="checked",
        summary="attribution patching where it agrees with real patches, else integrated gradients",
        formula="<Δz, g>, or <Δz, mean_k g(α_k)> where r < 0.95 against real patches",
        gradient="corrupt run, or on the line from corrupt to clean",
        passes="2 forwards + 1 backward + 16 patches of 4 pairs; or those of integrated gradients, too",
        source="the check of Nanda 2023; Syed et al. 2310.10348",
        run=checked,
        steps=(("features", FEATURE_STEPS), ("components", COMPONENT_STEPS)),
    ),
)
