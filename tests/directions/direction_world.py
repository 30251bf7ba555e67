"""A store with known stories, and the statistics of arrays made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.directions import (
    ESTIMATORS,
    DirectionSettings,
)
from emocircuits.directions.design import make_design, story_topics
from emocircuits.directions.statistics import (
    ClassStatistics,
    LabelledStories,
    site_statistics,
)
from emocircuits.directions.story_blocks import plan_stories

SITE = "blocks.0.hook_resid_post"


def labelled(seed=0, n_labels=5, per_label=30, d=8, distance=1.0):
    """Stories around random class means, with an uneven spread and uneven class sizes."""
    source = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_labels), [per_label + 3 * label for label in range(n_labels)])
    spread = np.linalg.qr(source.standard_normal((d, d)))[0] * np.linspace(0.3, 2.0, d)
    x = (
        4
        + distance * source.standard_normal((n_labels, d))[labels]
        + source.standard_normal((len(labels), d)) @ spread
    )
    return x, labels


def statistics(x, labels, weights=None, topics=None, neutral_cov=None):
    """`ClassStatistics` of arrays, computed plainly."""
    weights = np.ones(len(x)) if weights is None else weights
    n_labels, d = int(labels.max()) + 1, x.shape[1]
    means = np.stack(
        [
            np.average(x[labels == label], axis=0, weights=weights[labels == label])
            for label in range(n_labels)
        ]
    )
    around = x - means[labels]
    more = {}
    if topics is not None:
        n_topics = int(topics.max()) + 1
        share = np.stack(
            [
                np.bincount(topics[labels == label], minlength=n_topics) / (labels == label).sum()
                for label in range(n_labels)
            ]
        )
        more = {
            "topic_share": share,
            "topic_means": np.stack([x[topics == topic].mean(axis=0) for topic in range(n_topics)]),
        }
    return ClassStatistics(
        means=means,
        weights=np.bincount(labels, weights=weights),
        within_cov=around.T @ around / len(x),
        neutral_mean=np.zeros(d),
        neutral_cov=np.zeros((d, d)) if neutral_cov is None else neutral_cov,
        stories=LabelledStories(x, labels, weights),
        **more,
    )


def plain_store(
    path, x, labels, *, splits=None, topics=None, neutral=20, tokens=3, seed=0, emotions=None, dtype="float32"
):
    """A store at one site in which story i has `tokens` rows behind the sink, all equal to x[i]; neutral text
    is white noise.
    """
    source = np.random.default_rng(seed)
    rows = [
        dict(
            id=f"s{i}",
            emotion=(emotions or [f"e{label}" for label in range(labels.max() + 1)])[labels[i]],
            topic="" if topics is None else f"t{topics[i]}",
            kind="story",
            behaviour="",
            side="",
            split="train" if splits is None else splits[i],
            named=False,
        )
        for i in range(len(x))
    ]
    rows += [
        dict(
            id=f"n{i}",
            emotion="",
            topic="",
            kind="neutral",
            behaviour="",
            side="",
            split="train",
            named=False,
        )
        for i in range(neutral)
    ]
    values = [
        np.concatenate([np.full((1, x.shape[1]), 1e3), np.repeat(one[None], tokens, axis=0)]) for one in x
    ]
    values += [
        np.concatenate([np.full((1, x.shape[1]), 1e3), source.standard_normal((4, x.shape[1]))])
        for _ in range(neutral)
    ]
    with ActivationStoreWriter(
        path,
        (SITE,),
        x.shape[1],
        pd.DataFrame(rows),
        [np.arange(len(one)) for one in values],
        {"model_hash": "m", "model_name": "n"},
        dtype,
    ) as writer:
        for number, one in enumerate(values):
            writer.append([number], {SITE: one.astype(np.float32)})
        writer.finish()
    return ActivationStore.open(path)


SETTINGS = DirectionSettings(
    from_token=1,
    neutral_variance=0.0,
    bootstrap=7,
    splits=3,
    shuffled_controls=2,
    covariance_controls=4,
    content_controls=2,
)


def shuffled_stories(tmp_path, **changes):
    x, labels = labelled(**{"per_label": 12, **changes})
    source = np.random.default_rng(5)
    order = source.permutation(len(x))
    x, labels = x[order].astype(np.float32), labels[order]
    splits = np.where(source.random(len(x)) < 0.75, "train", "held_out")
    topics = source.integers(0, 3, len(x))
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits, topics=topics)
    return store, x.astype(np.float64), labels, splits == "train", topics


def gathered(store, estimator="difference_of_means", chunk=2048):
    plan = plan_stories(store, from_token=1)
    emotions = tuple(sorted(set(plan.stories["emotion"])))
    design = replace(
        make_design(
            plan,
            emotions,
            *story_topics(plan, emotions, SETTINGS.fit_split),
            SETTINGS,
            ESTIMATORS.get(estimator),
        ),
        chunk=chunk,
    )
    return design, site_statistics(store, plan, SITE, design)
