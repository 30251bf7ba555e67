"""match: which SAE features carry which emotion, tested against permuted labels."""

from dataclasses import replace

from emocircuits.io.documents import write_csv
from emocircuits.matching import match_features
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `matches.h5` (all scores and the null) and `matches.csv` (the best features of every
    emotion).
    """
    recipe, how = workspace.recipe, workspace.recipe.match
    matches = match_features(
        workspace.store(),
        workspace.saes(),
        workspace.directions(),
        how,
        seed=recipe.seed,
        workers=recipe.threads,
    )
    origin = workspace.provenance("match", "collect", "directions", "sae")
    matches = replace(matches, provenance=replace(origin, settings=matches.provenance.settings))
    matches.save(workspace.path("matches.h5"))
    write_csv(workspace.path("matches.csv"), matches.table)
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


STAGE = Stage(
    "match",
    "match SAE features with emotions",
    ("collect", "directions", "sae"),
    lambda recipe: {"match": recipe.to_dict()["match"], "emotion": recipe.emotion},
    work,
)
