"""collect: residual streams of all texts at every layer."""

import json
from dataclasses import asdict

from emocircuits.collect import collect_residuals
from emocircuits.io.atomic import write_text
from emocircuits.ranks import barrier, ranks
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace
from emocircuits.studies.texts import TEXTS, collected_texts, texts_for


def work(workspace: Workspace) -> Output:
    """Writes `texts.jsonl` and the store `activations.h5` with its shards; goes on where a killed run
    stopped.
    """
    if ranks().first:
        lines = [json.dumps(asdict(text), ensure_ascii=False) + "\n" for text in texts_for(workspace)]
        write_text(workspace.path(TEXTS), "".join(lines))
    barrier()
    store = collect_residuals(
        workspace.model,
        collected_texts(workspace),
        workspace.path("activations.h5"),
        dtype=workspace.recipe.collect.dtype,
        replace=True,
    )
    return Output((TEXTS, *(file.relative_to(workspace.directory).as_posix() for file in store.files)))


STAGE = Stage(
    "collect",
    "read the residual stream of the texts at every layer",
    ("plan",),
    lambda recipe: {
        "collect": recipe.to_dict()["collect"],
        "emotions": [recipe.emotion, recipe.opposite],
    },
    work,
    shared=True,
)
