"""plan: load the model, keep what its load-time checks measured."""

from dataclasses import asdict

import torch

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.errors import UserError
from emocircuits.io.documents import write_json
from emocircuits.models.files import revision_of
from emocircuits.models.gguf import quantisation_of
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.settings import known


def check(run: Run) -> None:
    """Behaviours exist, and the device is there."""
    names = run.recipe.behaviours
    for name in names:
        known("behaviours", name, BEHAVIOURS.names())
    if not names or len(set(names)) < len(names):
        raise UserError(f"behaviours is {', '.join(names) or 'empty'}", expected="at least one, each once")
    try:
        torch.empty(0, device=run.recipe.device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"device is '{run.recipe.device}' ({why})", expected="one that is here") from error


@stage(
    "load and check the model, bind the behaviours to it",
    settings=("behaviours",),
    check=check,
)
def plan(run: Run) -> Output:
    """Writes `model.json`."""
    model = run.model
    bound = {name: run.behaviour(name) for name in run.recipe.behaviours}
    about = {
        "name": run.recipe.model,
        "content_hash": model.content_hash,
        "family": model.card.name,
        "n_params": model.n_params,
        "revision": revision_of(run.model_directory),
        "quantisation": quantisation_of(run.model_directory),
        "dtype": run.recipe.dtype,
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "d_vocab": model.d_vocab,
        "n_ctx": model.n_ctx,
        "checks": [asdict(check) for check in model.checks],
        "behaviours": {
            name: {
                "title": one.behaviour.title,
                "description": one.behaviour.summary,
                "material": one.material.name,
                "targets": list(one.material.targets),
                "honest": list(one.material.honest),
                "left_out": list(one.material.left_out),
                "note": one.material.note,
                "own": None if one.own is None else asdict(one.own),
                "find": len(one.find),
                "score": len(one.score),
            }
            for name, one in bound.items()
        },
    }
    write_json(run.path("model.json"), about, schema="emocircuits.model", version=1)
    warnings = [
        f"{name}: {', '.join(one.material.left_out)}: no single tokens of this model, so not counted"
        for name, one in bound.items()
        if one.material.left_out
    ]
    return Output(("model.json",), tuple(warnings))
