"""An attribution method: the gradient is taken on the clean run instead of the corrupt one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from emocircuits.attribution import METHODS, MethodCard, PairBatch, attribution_patching
from emocircuits.runs.run import Run


def clean_gradient(model, saes, batches, metric, **options):
    """Attribution patching with the sides exchanged: what putting the corrupt value into the clean
    run costs.
    """
    swapped = [PairBatch(batch.corrupt, batch.clean, batch.index) for batch in batches]
    found = attribution_patching(model, saes, swapped, metric, **options)
    return replace(
        found,
        effects=-found.effects,
        metric_clean=found.metric_corrupt,
        metric_corrupt=found.metric_clean,
        conventions={**found.conventions, "method": "clean_gradient", "gradient": "clean run"},
    )


METHODS.add(
    MethodCard(
        "clean_gradient",
        "gradient at the clean run times clean - corrupt",
        clean_gradient,
        exact=False,
    )
)


def example(directory: Path) -> None:
    """On the planted model both gradients find the same strongest features."""
    run = Run.open(directory)
    pairs, metric = (
        run.pairs("reward_hacking", "find", 12),
        run.behaviour("reward_hacking").metric,
    )
    tops = []
    for name in ("attribution_patching", "clean_gradient"):
        found = METHODS.get(name).run(run.model.bridge, run.saes, pairs, metric)
        order = np.argsort(-np.abs(found.effects.mean(0)))[:8]
        tops.append({found.nodes[place] for place in order})
    assert len(tops[0] & tops[1]) >= 4
