"""One streaming pass against plain NumPy over all stories: means, halves, replicates, controls; memory that
does not grow.
"""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from directions.direction_world import SITE, labelled, plain_store, statistics

from emocircuits.directions import (
    ESTIMATORS,
    DirectionSettings,
    EstimatorOptions,
    learn_directions,
    story_blocks,
)
from emocircuits.directions.design import make_design, story_topics
from emocircuits.directions.resampling import QUALITIES, direction_quality, split_halves
from emocircuits.directions.statistics import replicate_weights, site_statistics
from emocircuits.directions.story_blocks import plan_stories, prompt_blocks
from emocircuits.errors import UserError

SETTINGS = DirectionSettings(
    from_token=1,
    neutral_variance=0.0,
    bootstrap=7,
    splits=3,
    shuffled_controls=2,
    covariance_controls=4,
    content_controls=2,
)


def world(tmp_path, **changes):
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


@pytest.mark.parametrize("chunk", [2048, 5])
def test_one_pass_equals_plain_means(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 33)
    store, x, labels, fit, topics = world(tmp_path)
    design, found = gathered(store, chunk=chunk)
    plain = statistics(x[fit], labels[fit], topics=topics[fit])
    np.testing.assert_allclose(found.emotions.means, plain.means, atol=1e-5)
    np.testing.assert_allclose(found.emotions.within_cov, plain.within_cov, atol=1e-4)
    np.testing.assert_allclose(found.emotions.topic_share, plain.topic_share, atol=1e-12)
    np.testing.assert_allclose(found.topics.means, plain.topic_means, atol=1e-5)
    np.testing.assert_allclose(found.total_cov, np.cov(x[fit].T, bias=True), atol=1e-4)
    np.testing.assert_allclose(found.held_out, x[~fit], atol=1e-5)
    for number, codes in enumerate(design.permuted):
        assert sorted(codes[fit]) == sorted(labels[fit]) and not np.array_equal(codes[fit], labels[fit])
        np.testing.assert_allclose(
            found.shuffled.means[number], statistics(x[fit], codes[fit]).means, atol=1e-5
        )
    for split in range(3):
        for half in (0, 1):
            own = fit & (design.halves[split] == half)
            np.testing.assert_allclose(
                found.halves.means[split, half], statistics(x[own], labels[own]).means, atol=1e-5
            )
    weights = np.concatenate(
        [replicate_weights(design, first, min(chunk, len(x) - first)) for first in range(0, len(x), chunk)]
    )
    for replicate in range(7):
        plain = statistics(x[fit], labels[fit], weights[fit, replicate].astype(float))
        np.testing.assert_allclose(found.replicates.means[replicate], plain.means, atol=1e-4)
        np.testing.assert_allclose(found.replicates.weights[replicate], plain.weights, rtol=1e-5)


def test_qualities_equal_a_loop_over_draws(tmp_path):
    store, x, labels, fit, _ = world(tmp_path)
    design, found = gathered(store)
    estimator, options = ESTIMATORS.get("difference_of_means"), EstimatorOptions(neutral_variance=0.0)
    raw = estimator.fit(found.emotions, options)
    quality = direction_quality(estimator, options, found, design, raw)
    weights = replicate_weights(design, 0, len(x))[fit].astype(float)

    def cosine(a, b):
        return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)

    draws = [estimator.fit(statistics(x[fit], labels[fit], column), options) for column in weights.T]
    np.testing.assert_allclose(
        quality["cosine_low"], np.quantile([cosine(one, raw) for one in draws], 0.05, axis=0), atol=1e-4
    )
    along = [(one * raw).sum(-1) / np.linalg.norm(raw, axis=-1) for one in draws]
    np.testing.assert_allclose(quality["norm_high"], np.quantile(along, 0.975, axis=0), rtol=1e-4)
    halves = [
        [
            estimator.fit(statistics(x[fit & (row == half)], labels[fit & (row == half)]), options)
            for half in (0, 1)
        ]
        for row in design.halves
    ]
    r = np.mean([cosine(*pair) for pair in halves], axis=0)
    np.testing.assert_allclose(quality["reliability"], r, atol=1e-4)
    np.testing.assert_allclose(quality["reliability_full"], 2 * r / (1 + r), atol=1e-4)


def test_refitted_estimators_use_the_same_draws(tmp_path):
    """For an estimator that is linear in disguise, refitting with story weights gives what the gathered means
    give.
    """
    store, *_ = world(tmp_path)
    _, linear = gathered(store)
    design, found = gathered(store, "contrast_pca")
    options = EstimatorOptions(neutral_variance=0.0)
    plain = ESTIMATORS.get("difference_of_means")
    disguised = replace(plain, needs_stories=True)
    raw = plain.fit(found.emotions, options)
    one, two = (direction_quality(estimator, options, found, design, raw) for estimator in (plain, disguised))
    for name in QUALITIES:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5)
    assert len(design.halves) == design.n_bootstrap == SETTINGS.refits and linear.emotions.stories is None


def test_halves_are_balanced_within_emotions():
    labels = np.repeat(np.arange(6), [2, 3, 10, 11, 40, 7])
    halves = split_halves(labels, 4, 0)
    for row in halves:
        counts = np.array([np.bincount(row[labels == label], minlength=2) for label in range(6)])
        assert (np.abs(counts[:, 0] - counts[:, 1]) <= 1).all() and (counts > 0).all()
    assert len({row.tobytes() for row in halves}) == 4


def test_bootstrap_intervals_cover_and_reliability_tells_the_cosine_with_the_truth(tmp_path):
    """The root of the full reliability is the cosine that estimates have with the true direction,
    on average.
    """
    source = np.random.default_rng(0)
    truth = source.standard_normal((40, 20))
    truth -= truth.mean(axis=0)
    labels = np.repeat(np.arange(40), 24)
    x = truth[labels] + 4 * source.standard_normal((len(labels), 20))
    splits = np.tile(["train"] * 20 + ["held_out"] * 4, 40)
    found = learn_directions(
        plain_store(tmp_path / "a.h5", x, labels, splits=splits),
        DirectionSettings(from_token=1, neutral_variance=0.0, splits=20, content_controls=0),
    )
    assert [f"e{label}" for label in range(40)] == sorted(found.emotions, key=lambda name: int(name[1:]))
    place = [int(name[1:]) for name in found.emotions]
    unit = truth[place] / np.linalg.norm(truth[place], axis=1, keepdims=True)
    cosines = (found.vectors[0] * unit).sum(axis=1)
    expected = np.sqrt(found.quality["reliability_full"][0].mean())
    assert cosines.mean() == pytest.approx(expected, abs=0.03)
    low, high = found.quality["norm_low"][0], found.quality["norm_high"][0]
    assert ((low < found.norms[0]) & (found.norms[0] < high)).all()
    # 20 stories with spread 4 in every direction, less a mean over 40 emotions; a Bayesian bootstrap of n
    # divides by n + 1
    assert np.mean(high - low) / 3.92 == pytest.approx(4 * np.sqrt(19 / 20 / 21 * (1 - 1 / 40)), rel=0.08)
    assert (found.quality["cosine_low"][0] < 1).all() and found.quality["cosine_low"][0].min() > 0.5


def test_covariance_controls_follow_the_spread_of_stories(tmp_path):
    x, labels = labelled(per_label=200, d=6)
    splits = np.where(np.arange(len(x)) % 5 == 0, "held_out", "train")
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits)
    found = learn_directions(
        store,
        DirectionSettings(
            from_token=1,
            neutral_variance=0.0,
            covariance_controls=3000,
            random_controls=3000,
            content_controls=0,
            bootstrap=0,
            splits=0,
        ),
    )
    fit = splits == "train"
    within = statistics(x[fit], labels[fit]).within_cov
    energy = {
        kind: np.einsum("cd,de,ce->c", control.vectors[0], within, control.vectors[0]).mean()
        / np.trace(within)
        for kind, control in found.controls.items()
        if kind in ("random", "covariance")
    }
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(6), within, 20_000)
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    assert energy["covariance"] == pytest.approx(
        np.einsum("cd,de,ce->c", draws, within, draws).mean() / np.trace(within), rel=0.05
    )
    assert energy["random"] == pytest.approx(1 / 6, rel=0.1) and energy["covariance"] > 1.5 * energy["random"]


def test_token_norm_is_a_mean_of_unit_tokens_in_residual_units(tmp_path):
    source = np.random.default_rng(0)
    x, labels = source.standard_normal((40, 5)) * source.uniform(1, 50, (40, 1)), np.repeat([0, 1], 20)
    splits = np.tile(["train", "held_out"], 20)
    found = learn_directions(
        plain_store(tmp_path / "a.h5", x, labels, splits=splits),
        DirectionSettings(from_token=1, neutral_variance=0.0, token_norm=True, content_controls=0),
    )
    fit = splits == "train"
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[fit & (labels == label)].mean(axis=0) for label in (0, 1)])
    np.testing.assert_allclose(
        found.differences(SITE), found.residual_norm[0] * (means - means.mean(axis=0)), rtol=1e-3, atol=1e-3
    )


def test_memory_does_not_grow_with_the_number_of_stories(tmp_path, monkeypatch):
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 512)
    source, width, peaks = np.random.default_rng(0), 512, []
    for n in (1000, 4000):
        labels = np.arange(n) % 4
        splits = np.where(np.arange(n) % 100 < 4, "held_out", "train")
        store = plain_store(
            tmp_path / f"{n}.h5", source.standard_normal((n, width)), labels, splits=splits, tokens=1
        )
        settings = DirectionSettings(
            from_token=1, bootstrap=10, splits=1, shuffled_controls=1, content_controls=0, max_held_out=10
        )
        plan = plan_stories(store, from_token=1)
        design = make_design(
            plan,
            tuple(f"e{label}" for label in range(4)),
            (),
            np.full(n, -1),
            settings,
            ESTIMATORS.get("difference_of_means"),
        )
        tracemalloc.start()
        site_statistics(store, plan, SITE, replace(design, chunk=256))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.1 * 3000 * width * 4  # a tenth of what the stories' means would take


def test_blocks_end_with_prompts():
    assert prompt_blocks(np.array([3, 3, 3, 20, 1]), 6) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert prompt_blocks(np.array([5]), 2) == [(0, 1)]


def test_only_the_first_held_out_stories_score(tmp_path):
    store, x, labels, fit, _ = world(tmp_path)
    found = learn_directions(store, DirectionSettings(from_token=1, max_held_out=2, content_controls=0))
    assert found.settings["n_held_out"] == 2 * (labels.max() + 1)


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_every_estimator_learns_with_all_controls(tmp_path, name):
    store, *_ = world(tmp_path, distance=3.0)
    found = learn_directions(store, DirectionSettings(**{**vars(SETTINGS), "estimator": name}))
    assert {kind: len(control.names) for kind, control in found.controls.items()} == {
        "random": 20,
        "covariance": 4,
        "shuffled": 2,
        "content": 2,
    }
    assert set(QUALITIES) < set(found.quality) and np.isfinite(found.quality["reliability"]).all()
    assert found.site_quality["auroc"][0] == pytest.approx(found.held_out_auroc[0].mean(), abs=1e-6)
    assert found.site_quality["auroc"][0] > 0.8 and found.estimator == name
    table = found.table()
    assert {"auroc_low", "auroc_high", "cosine_low"} < set(table) and len(table) == len(found.emotions)


def test_a_topic_that_gives_the_emotion_away_is_refused_or_told(tmp_path):
    x, labels = labelled(per_label=20)
    splits = np.where(np.arange(len(x)) % 4 == 0, "held_out", "train")
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits, topics=labels)
    with pytest.raises(UserError, match=r"Cramér's V 1.00, AUROC of the topic alone 1.00"):
        learn_directions(store, DirectionSettings(from_token=1))
    found = learn_directions(store, DirectionSettings(from_token=1, max_topic_v=1.0))
    assert found.settings["topic_cramers_v"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"to_depth": 0.4}, "no site lies between"),
        ({"content_controls": 3}, "fewer than two topics"),
        ({"centre": "nothing"}, "unknown directions.centre"),
    ],
)
def test_bad_settings(tmp_path, settings, word):
    x, labels = labelled()
    store = plain_store(
        tmp_path / "a.h5", x, labels, splits=np.where(np.arange(len(x)) % 4 == 0, "held_out", "train")
    )
    with pytest.raises(UserError, match=word):
        learn_directions(store, DirectionSettings(**{"from_token": 1, "content_controls": 0, **settings}))


def test_a_layer_range_must_hold_the_default_sites():
    from emocircuits.directions.settings import sites_between

    sites = tuple("abcdef")
    assert sites_between(sites, 0.5, 0.9) == ("c", "d", "e") and sites_between(sites, 0, 1) == sites
    assert pd.Series(sites_between(sites, 1 / 6, 1 / 6)).tolist() == ["a"]


def test_a_topic_that_is_only_held_out_is_no_class(tmp_path):
    x, labels = labelled(per_label=12)
    held = np.arange(len(x)) % 4 == 0
    # topic 2 is that of one held-out story
    topics = np.where(np.arange(len(x)) == 4, 2, np.arange(len(x)) // 2 % 2)
    store = plain_store(
        tmp_path / "a.h5",
        x.astype(np.float32),
        labels,
        splits=np.where(held, "held_out", "train"),
        topics=topics,
    )
    found = learn_directions(store, SETTINGS)
    assert (
        set(found.controls["content"].names) == {"t0", "t1"}
        and np.isfinite(found.controls["content"].vectors).all()
    )
