"""An attribution method: the gradient is taken on the clean run instead of the corrupt one."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from emocircuits import METHODS, MethodCard, Request, Run, attribute


def clean_gradient(request: Request):
    """Attribution patching with the sides exchanged: what putting the corrupt value into the clean run
    costs.
    """
    swapped = replace(request, task=request.task.swapped())
    found = METHODS.get("attribution_patching").run(swapped)
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
        formula="<Δz, g>",
        gradient="clean run",
        passes="2 forwards + 1 backward",
        source="",
        run=clean_gradient,
    )
)


def example(directory: Path) -> None:
    """On the planted model both gradients find the same strongest features."""
    find, _ = Run.open(directory).tasks("reward_hacking")
    tops = []
    for name in ("attribution_patching", "clean_gradient"):
        found = attribute(find, method=name, edges=False)
        order = np.argsort(-np.abs(found.effects.mean(0)))[:8]
        tops.append({found.nodes[place] for place in order})
    assert len(tops[0] & tops[1]) >= 4
