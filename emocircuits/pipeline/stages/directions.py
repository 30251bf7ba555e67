"""directions: emotion directions at every layer with their controls, and every check of them."""

from collections.abc import Iterator

import pandas as pd

from emocircuits.artifacts.emotion_directions import EmotionDirections
from emocircuits.directions.confounds import TopicConfound
from emocircuits.directions.learn import learn_directions
from emocircuits.directions.settings import DirectionSettings
from emocircuits.io.documents import write_csv
from emocircuits.pipeline.direction_checks import (
    cluster_table,
    coordinate_table,
    geometry_table,
    intensity_tables,
    lens_tables,
    organism_limits,
    preference_study,
    similarity_table,
    site_table,
)
from emocircuits.pipeline.recipe import Recipe
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `directions.h5` and one table per check (see docs/directions.md)."""
    directions = learn_directions(workspace.store(), direction_settings(workspace.recipe))
    directions.save(workspace.path("directions.h5"))
    paths = ["directions.h5"]
    for name, table in _tables(workspace, directions):
        write_csv(workspace.path(name), table)
        paths.append(name)
    confound = TopicConfound(directions.settings["topic_cramers_v"], directions.settings["topic_auroc"])
    return Output(tuple(paths), (confound.warning,) if confound.warning else ())


def direction_settings(recipe: Recipe, **changes: object) -> DirectionSettings:
    """What the recipe says about learning directions, as the library's settings."""
    how = recipe.directions
    return DirectionSettings(
        **{
            "emotions": recipe.collect.emotions or None,
            "estimator": how.estimator,
            "from_token": how.start_token,
            "neutral_variance": how.neutral_variance,
            "centre": how.centre,
            "penalty": how.penalty,
            "token_norm": how.token_norm,
            "depths": (how.from_depth, how.to_depth),
            "control_emotion": recipe.emotion,
            "max_topic_v": how.max_topic_v,
            "n_random": how.random_controls,
            "n_covariance": how.covariance_controls,
            "n_content": how.content_controls,
            "n_shuffled": how.shuffled_controls,
            "n_splits": how.splits,
            "n_bootstrap": how.bootstrap,
            "read_depth": how.read_depth,
            "steer_depth": how.steer_depth,
            "seed": recipe.seed,
            **changes,
        }
    )


def _tables(workspace: Workspace, directions: EmotionDirections) -> Iterator[tuple[str, pd.DataFrame]]:
    recipe = workspace.recipe
    yield "directions.csv", directions.table().merge(coordinate_table(), on="emotion", how="left")
    yield "direction_sites.csv", site_table(directions, organism_limits(workspace, directions))
    yield "geometry.csv", geometry_table(directions)
    yield "emotion_clusters.csv", cluster_table(directions, recipe.directions.clusters, recipe.seed)
    yield "layer_similarity.csv", similarity_table(directions, recipe.seed)
    if recipe.directions.lens_prompts:
        tokens, summary = lens_tables(workspace, directions)
        yield "logit_lens.csv", tokens
        yield "logit_lens_summary.csv", summary
    if recipe.directions.intensity:
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
        "preference": recipe.to_dict()["preference"],
        "emotions": recipe.collect.emotions,
        "emotion": recipe.emotion,
    },
    work,
)
