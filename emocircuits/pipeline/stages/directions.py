"""directions: emotion directions at every layer with their controls, and their geometry."""

import pandas as pd

from emocircuits.directions.learn import DirectionSettings, learn_directions
from emocircuits.experiments.geometry import coordinate_correlations
from emocircuits.io.documents import write_csv
from emocircuits.organism.world import APPRAISALS, lexicon
from emocircuits.pipeline.stage import Output, Stage
from emocircuits.pipeline.workspace import Workspace


def work(workspace: Workspace) -> Output:
    """Writes `directions.h5`, `directions.csv` (norm and held-out AUROC) and `geometry.csv` (principal components against norms)."""
    recipe = workspace.recipe
    how = recipe.directions
    directions = learn_directions(workspace.store(), DirectionSettings(
        emotions=recipe.collect.emotions or None, from_token=how.start_token, neutral_variance=how.neutral_variance,
        control_emotion=recipe.emotion, n_random=how.random_controls, n_content=how.content_controls,
        n_shuffled=how.shuffled_controls, read_depth=how.read_depth, steer_depth=how.steer_depth, seed=recipe.seed))
    directions.save(workspace.path("directions.h5"))
    coordinates = coordinate_table()
    write_csv(workspace.path("directions.csv"), directions.table().merge(coordinates, on="emotion", how="left"))
    geometry = [coordinate_correlations(directions.differences(site), directions.emotions, coordinates).assign(site=site)
                for site in directions.sites]
    write_csv(workspace.path("geometry.csv"), pd.concat(geometry))
    return Output(("directions.h5", "directions.csv", "geometry.csv"))


def coordinate_table() -> pd.DataFrame:
    """Appraisal coordinates of all emotions of the lexicon, one row per emotion."""
    known = lexicon()
    return pd.DataFrame(known.coordinates, columns=list(APPRAISALS)).assign(emotion=list(known.emotions))


STAGE = Stage("directions", "emotion directions with random, content and shuffled controls", ("collect",),
              lambda recipe: {"directions": recipe.to_dict()["directions"], "emotions": recipe.collect.emotions,
                              "emotion": recipe.emotion}, work)
