"""match: which SAE features carry which emotion, tested against permuted labels."""

from dataclasses import replace

from emocircuits.io.documents import write_csv
from emocircuits.matching import match_features
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage


@stage(
    "match SAE features with emotions",
    needs=("collect", "directions", "sae"),
    settings=("match", "emotion"),
)
def match(run: Run) -> Output:
    """Writes `matches.h5` (all scores and the null) and `matches.csv` (the best features of every
    emotion).
    """
    recipe, how = run.recipe, run.recipe.match
    matches = match_features(
        run.store,
        run.saes,
        run.directions,
        how,
        seed=recipe.seed,
        workers=recipe.threads,
    )
    origin = run.provenance("match", "collect", "directions", "sae")
    matches = replace(matches, provenance=replace(origin, settings=matches.provenance.settings))
    matches.save(run.path("matches.h5"))
    write_csv(run.path("matches.csv"), matches.table)
    warnings = (
        ()
        if len(matches.kept(recipe.emotion))
        else (
            (
                f"no SAE feature matches '{recipe.emotion}' at q ≤ {how.q_value}: the "
                "circuits are traced all the same"
            ),
        )
    )
    return Output(("matches.h5", "matches.csv"), warnings)
