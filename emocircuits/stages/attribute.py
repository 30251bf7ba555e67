"""attribute: the effect of every SAE feature and error node on each behaviour, per prompt."""

from dataclasses import replace
from functools import partial

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.attribute import attribute as attribute_task
from emocircuits.attribution.methods import METHODS
from emocircuits.ranks import ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.runs.workers import for_each
from emocircuits.settings import known


def check(run: Run) -> None:
    """The method exists, and circuits can be chosen by its effects."""
    known("attribute.method", run.recipe.attribute.method, [card.name for card in METHODS if card.pairs])


@stage(
    "the effect of SAE features and error nodes",
    needs=("plan", "directions", "sae"),
    settings=("attribute", "behaviours"),
    check=check,
    shared=True,
)
def attribute(run: Run) -> Output:
    """Writes `attribution_<behaviour>.h5`; the ranks of a job share the prompts, the first writes."""
    return Output(tuple(for_each(run, _attributed, run.recipe.behaviours)))


def _attributed(run: Run, name: str) -> str:
    """Writes the attribution of one behaviour; its file."""
    settings, (find, _), path = run.recipe.attribute, run.tasks(name), f"attribution_{name}.h5"
    work = partial(attribute_task, find, method=settings.method, steps=settings.steps, edges=False)
    result = run.keep(f"effects {name}", work, AttributionResult)
    if ranks().first:
        replace(result, provenance=run.provenance("attribute", "plan", "sae")).save(run.path(path))
    return path
