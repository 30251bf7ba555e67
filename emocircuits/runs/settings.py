"""The recipe's sections as the library's own settings."""

from dataclasses import fields

from emocircuits.directions.settings import DirectionSettings
from emocircuits.matching import MatchSettings
from emocircuits.runs.recipe import Recipe
from emocircuits.sae import SAESettings


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


def training_settings(recipe: Recipe) -> SAESettings:
    """How the recipe wants SAEs trained."""
    same = {item.name for item in fields(SAESettings)} & {item.name for item in fields(recipe.sae)}
    return SAESettings(**{name: getattr(recipe.sae, name) for name in same}, seed=recipe.seed)


def match_settings(recipe: Recipe) -> MatchSettings:
    """How the recipe wants features matched."""
    same = {item.name for item in fields(MatchSettings)} & {item.name for item in fields(recipe.match)}
    return MatchSettings(**{name: getattr(recipe.match, name) for name in same}, seed=recipe.seed)
