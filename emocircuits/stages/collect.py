"""collect: residual streams of all texts at every layer."""

import json

from emocircuits.activations.residuals import collect as collect_activations
from emocircuits.io.atomic import write_text
from emocircuits.ranks import barrier, ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.studies.texts import TEXTS, check_material, collected_texts, texts_for


@stage(
    "read the residual stream of the texts at every layer",
    needs=("plan",),
    settings=("collect", "layers", "emotion", "opposite"),
    check=check_material,
    shared=True,
)
def collect(run: Run) -> Output:
    """Writes `texts.jsonl` and the store `activations.h5` with its shards; resumes where a killed run
    stopped.
    """
    if ranks().first:
        lines = [json.dumps(vars(text), ensure_ascii=False) + "\n" for text in texts_for(run)]
        write_text(run.path(TEXTS), "".join(lines))
    barrier()
    store = collect_activations(
        run.model,
        collected_texts(run),
        run.path("activations.h5"),
        dtype=run.recipe.collect.dtype,
        replace=True,
    )
    return Output((TEXTS, *(file.relative_to(run.directory).as_posix() for file in store.files)))
