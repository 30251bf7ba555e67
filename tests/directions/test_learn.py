"""Directions against the recipe by hand."""

import numpy as np
import pytest
from directions.direction_world import SETTINGS, labelled, plain_store, shuffled_stories
from directions.story_store import EMOTIONS, SITES, START, make_store
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from emocircuits.directions import (
    ESTIMATORS,
    DirectionSettings,
    learn_directions,
    summarise,
)
from emocircuits.directions.estimator import leading_components
from emocircuits.directions.resampling import QUALITIES
from emocircuits.errors import UserError
from emocircuits.names import residual_site


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_directions_equal_the_recipe_by_hand(world):
    store, values = world
    found = learn_directions(store, DirectionSettings(from_token=START))
    assert found.emotions == EMOTIONS
    neutral = np.concatenate(
        [values[number][:, 1:] for number, row in store.prompts.iterrows() if row["kind"] == "neutral"],
        axis=1,
    )
    for site in range(len(SITES)):
        means = []
        for emotion in EMOTIONS:
            chosen = [
                values[number][site, START:].mean(axis=0)
                for number, row in store.prompts.iterrows()
                if row["emotion"] == emotion and row["split"] == "train" and not row["named"]
            ]
            means.append(np.mean(chosen, axis=0))
        pca = PCA().fit(neutral[site])
        needed = int(np.argmax(np.cumsum(pca.explained_variance_ratio_) >= 0.5)) + 1
        for place, mean in enumerate(means):
            raw = mean - np.mean(means, axis=0)
            for component in pca.components_[:needed]:
                raw = raw - raw @ component * component
            np.testing.assert_allclose(found.vectors[site, place], raw / np.linalg.norm(raw), atol=1e-4)
            assert found.norms[site, place] == pytest.approx(np.linalg.norm(raw), rel=1e-4)
        np.testing.assert_allclose(found.mean[site], np.mean(means, axis=0), atol=1e-3)


def test_directions_point_to_more_of_the_emotion_and_beat_shuffled_labels(world):
    store, _ = world
    found = learn_directions(store, DirectionSettings(from_token=START))
    assert found.held_out_auroc.mean() > 0.95
    again = learn_directions(store, DirectionSettings(from_token=START))
    assert again.content_hash == found.content_hash
    summary = summarise(store, from_token=START)
    held = summary.of_split("held_out")
    desperate = summary.stories["emotion"].to_numpy()[held] == "desperate"
    for site in range(len(SITES)):
        aurocs = [
            roc_auc_score(desperate, summary.story_means[held, site] @ vector)
            for vector in found.controls["shuffled"].vectors[site]
        ]
        assert found.held_out_auroc[site, 2] > max(aurocs)


def test_a_common_shift_changes_no_direction_and_more_variance_removes_more(world, tmp_path):
    store, _ = world
    plain = learn_directions(store, DirectionSettings(from_token=START, neutral_variance=0.0))
    summary = summarise(store, from_token=START)
    most = learn_directions(store, DirectionSettings(from_token=START, neutral_variance=0.9))
    for site in range(len(SITES)):
        basis = leading_components(summary.neutral_cov[site], 0.9)
        assert np.abs(most.vectors[site] @ basis).max() < 1e-5
        assert np.abs(plain.vectors[site] @ basis).max() > 0.05


def test_only_the_first_held_out_stories_score(tmp_path):
    store, x, labels, fit, _ = shuffled_stories(tmp_path)
    found = learn_directions(store, DirectionSettings(from_token=1, max_held_out=2, content_controls=0))
    assert found.settings["n_held_out"] == 2 * (labels.max() + 1)


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_every_estimator_learns_with_all_controls(tmp_path, name):
    store, *_ = shuffled_stories(tmp_path, distance=3.0)
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


def test_a_layer_range_must_hold_the_default_sites():
    from emocircuits.directions.settings import sites_between

    sites = tuple(residual_site(layer) for layer in range(6))
    assert sites_between(sites, 0.5, 0.9, 6) == sites[2:5] and sites_between(sites, 0, 1, 6) == sites
    assert sites_between(sites, 1 / 6, 1 / 6, 6) == sites[:1]
    some = (sites[1], sites[4])  # depth is that of the model, not a place in the list
    assert sites_between(some, 0, 0.5, 6) == some[:1] and sites_between(some, 0.8, 1, 6) == some[1:]
    with pytest.raises(UserError, match="no site lies between the depths 0.4 and 0.8"):
        sites_between(some, 0.4, 0.8, 6)


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
