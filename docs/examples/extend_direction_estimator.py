"""A direction estimator: one emotion's stories minus the mean over all stories, long stories weighing as much
as short ones.
"""

from pathlib import Path

from emocircuits import ESTIMATORS, ActivationStore, DirectionSettings, Estimator, learn_directions


def versus_all(statistics, options):
    """Raw directions `(*draw, label, d_model)`; units are made later."""
    means, stories = statistics.means, statistics.weights[..., None].astype(statistics.means.dtype)
    return means - (stories * means).sum(axis=-2, keepdims=True) / stories.sum(axis=-2, keepdims=True)


ESTIMATORS.add(
    Estimator("versus_all", "mean of one emotion's stories minus the mean of all stories", versus_all)
)


def example(run: Path) -> None:
    """Learns with it from a run's activations; it must read held-out stories."""
    store = ActivationStore.open(run / "activations.h5")
    settings = DirectionSettings(
        estimator="versus_all",
        from_token=12,
        random_controls=3,
        covariance_controls=0,
        content_controls=0,
        shuffled_controls=2,
        splits=4,
        bootstrap=20,
    )
    directions = learn_directions(store, settings)
    assert directions.estimator == "versus_all"
    assert directions.held_out_auroc.min() > 0.9
