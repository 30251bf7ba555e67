"""attribute: the effect of every SAE feature and error node on each behaviour, per prompt."""

from dataclasses import replace

from emocircuits.attribution import METHODS
from emocircuits.ranks import ranks
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `attribution_<behaviour>.h5`; the ranks of a job share the prompts, the first writes."""
    settings, saes, paths = workspace.recipe.attribute, workspace.saes(), []
    method = METHODS.get(settings.method)
    extra = {"steps": workspace.gradient_steps} if workspace.gradient_steps else {}
    for name in workspace.recipe.behaviours:
        batches = workspace.pairs(name, "find", settings.pairs)
        result = method.run(
            workspace.model.bridge,
            saes,
            batches,
            workspace.behaviour(name).metric,
            behaviour=name,
            max_tokens=settings.max_tokens,
            **extra,
        )
        paths.append(f"attribution_{name}.h5")
        if ranks().first:
            replace(result, provenance=workspace.provenance("attribute", "plan", "sae")).save(
                workspace.path(paths[-1])
            )
    return Output(tuple(paths))


STAGE = Stage(
    "attribute",
    "the effect of SAE features and error nodes",
    ("plan", "directions", "sae"),
    lambda recipe: {"attribute": recipe.to_dict()["attribute"], "behaviours": recipe.behaviours},
    work,
    shared=True,
)
