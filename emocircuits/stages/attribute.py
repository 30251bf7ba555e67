"""attribute: the effect of every SAE feature and error node on each behaviour, per prompt."""

from dataclasses import replace

from emocircuits.attribution import METHODS
from emocircuits.ranks import ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.settings import known


def check(run: Run) -> None:
    """The method exists."""
    known("attribute.method", run.recipe.attribute.method, METHODS.names())


@stage(
    "the effect of SAE features and error nodes",
    needs=("plan", "directions", "sae"),
    settings=("attribute", "behaviours"),
    check=check,
    shared=True,
)
def attribute(run: Run) -> Output:
    """Writes `attribution_<behaviour>.h5`; the ranks of a job share the prompts, the first writes."""
    settings, saes, paths = run.recipe.attribute, run.saes, []
    method = METHODS.get(settings.method)
    extra = {"steps": run.gradient_steps} if run.gradient_steps else {}
    for name in run.recipe.behaviours:
        batches = run.pairs(name, "find", settings.pairs)
        result = method.run(
            run.model.bridge,
            saes,
            batches,
            run.behaviour(name).metric,
            behaviour=name,
            max_tokens=settings.max_tokens,
            **extra,
        )
        paths.append(f"attribution_{name}.h5")
        if ranks().first:
            replace(result, provenance=run.provenance("attribute", "plan", "sae")).save(run.path(paths[-1]))
    return Output(tuple(paths))
