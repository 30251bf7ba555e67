"""directions: emotion directions at every layer with their controls, and every check of them."""

from collections.abc import Iterator

import pandas as pd

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.directions.confounds import TopicConfound
from emocircuits.io.documents import write_csv
from emocircuits.runs.stage import Output, Stage
from emocircuits.runs.workspace import Workspace
from emocircuits.studies.direction_checks import (
    cluster_table,
    coordinate_table,
    geometry_table,
    intensity_tables,
    learned_directions,
    lens_tables,
    organism_limits,
    preference_study,
    similarity_table,
    site_table,
)


def work(workspace: Workspace) -> Output:
    """Writes `directions.h5` and one table per check (see docs/directions.md)."""
    directions = learned_directions(workspace, workspace.recipe.directions)
    directions.save(workspace.path("directions.h5"))
    paths = ["directions.h5"]
    for name, table in _tables(workspace, directions):
        write_csv(workspace.path(name), table)
        paths.append(name)
    confound = TopicConfound(directions.settings["topic_cramers_v"], directions.settings["topic_auroc"])
    return Output(tuple(paths), (confound.warning,) if confound.warning else ())


def _tables(workspace: Workspace, directions: EmotionDirections) -> Iterator[tuple[str, pd.DataFrame]]:
    recipe = workspace.recipe
    yield "directions.csv", directions.table().merge(coordinate_table(), on="emotion", how="left")
    yield "direction_sites.csv", site_table(directions, organism_limits(workspace, directions))
    yield "geometry.csv", geometry_table(directions)
    yield "emotion_clusters.csv", cluster_table(directions, recipe.checks.clusters, recipe.seed)
    yield "layer_similarity.csv", similarity_table(directions, recipe.seed)
    if recipe.checks.lens_prompts:
        tokens, summary = lens_tables(workspace, directions)
        yield "logit_lens.csv", tokens
        yield "logit_lens_summary.csv", summary
    if recipe.checks.intensity:
        readings, trends = intensity_tables(workspace, directions)
        yield "intensity.csv", readings
        yield "intensity_trends.csv", trends
    if recipe.preference.material:
        activities, emotions, _ = preference_study(workspace, directions, recipe.preference)
        yield "preferences.csv", activities
        yield "preference_emotions.csv", emotions


STAGE = Stage(
    "directions",
    "emotion directions with controls, intervals and checks",
    ("collect",),
    lambda recipe: {
        "directions": recipe.to_dict()["directions"],
        "checks": recipe.to_dict()["checks"],
        "preference": recipe.to_dict()["preference"],
        "emotions": recipe.collect.emotions,
        "emotion": recipe.emotion,
    },
    work,
)
