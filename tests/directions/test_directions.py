"""Directions against loops in plain NumPy, scikit-learn, and a world where the answer is put in by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.directions import DirectionSettings, learn_directions, story_blocks, summarise
from emocircuits.directions.estimator import leading_components
from emocircuits.directions.settings import site_at_depth
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.errors import UserError

D, SITES = 12, ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post")
EMOTIONS, TOPICS = ("angry", "calm", "desperate", "happy"), ("cooking", "music", "rain")
START = 4


def make_store(path, *, per_cell=3, noise=1.0, seed=0):
    """Stories = emotion vector + topic vector + noise; neutral text varies most along the first two axes;
    position 0 is huge.
    """
    source = np.random.default_rng(seed)
    truth = {name: source.standard_normal((len(SITES), D)) for name in (*EMOTIONS, *TOPICS)}
    rows, tokens, values = [], [], []
    for split in ("train", "held_out"):
        for emotion in EMOTIONS:
            for topic in TOPICS:
                for copy in range(per_cell):
                    n = int(source.integers(START + 1, 20))
                    rows.append(
                        dict(
                            id=f"{split}/{emotion}/{topic}/{copy}",
                            emotion=emotion,
                            topic=topic,
                            kind="story",
                            behaviour="",
                            side="",
                            split=split,
                            named=False,
                        )
                    )
                    x = (
                        3
                        + 2 * truth[emotion][:, None]
                        + truth[topic][:, None]
                        + noise * source.standard_normal((len(SITES), n, D))
                    )
                    x[:, :START] += 50  # what comes before the first counted token must not matter
                    tokens.append(np.arange(n)), values.append(x)
    for number in range(10):
        n = int(source.integers(8, 20))
        rows.append(
            dict(
                id=f"neutral/{number}",
                emotion="",
                topic="",
                kind="neutral",
                behaviour="",
                side="",
                split="train",
                named=False,
            )
        )
        scale = np.array([9.0, 6.0] + [1.0] * (D - 2))
        tokens.append(np.arange(n)), values.append(source.standard_normal((len(SITES), n, D)) * scale)
    rows.append(
        dict(
            id="named",
            emotion="calm",
            topic="rain",
            kind="story",
            behaviour="",
            side="",
            split="train",
            named=True,
        )
    )
    tokens.append(np.arange(12)), values.append(1e3 * np.ones((len(SITES), 12, D)))
    for x in values:
        x[:, 0] = 1e4
    with ActivationStoreWriter(
        path, SITES, D, pd.DataFrame(rows), tokens, {"model_hash": "m", "model_name": "n"}, "float32"
    ) as writer:
        for number, x in enumerate(values):
            writer.append([number], {site: x[place].astype(np.float32) for place, site in enumerate(SITES)})
        writer.finish()
    return ActivationStore.open(path), values


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "a.h5")


def test_summary_equals_loops(world, monkeypatch):
    store, values = world
    monkeypatch.setattr(story_blocks, "BLOCK_ROWS", 37)  # a few stories at a time
    found = summarise(store, from_token=START)
    stories = [
        number for number, row in store.prompts.iterrows() if row["kind"] == "story" and not row["named"]
    ]
    np.testing.assert_allclose(
        found.story_means, [values[number][:, START:].mean(axis=1) for number in stories], atol=1e-4
    )
    neutral = np.concatenate(
        [values[number][:, 1:] for number, row in store.prompts.iterrows() if row["kind"] == "neutral"],
        axis=1,
    )
    for site in range(len(SITES)):
        np.testing.assert_allclose(
            found.neutral_cov[site], np.cov(neutral[site].T, bias=True), rtol=1e-4, atol=1e-3
        )
        everything = np.concatenate([x[site, 1:] for x in values])
        assert found.residual_norm[site] == pytest.approx(np.linalg.norm(everything, axis=1).mean(), rel=1e-5)


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


def test_controls(world):
    store, _ = world
    found = learn_directions(store, DirectionSettings(from_token=START, content_topics=("rain", "music")))
    assert found.controls["content"].names == ("rain", "music")
    assert len(found.controls["random"].names) == 20 and len(found.controls["shuffled"].names) == 5
    cosines = found.controls["random"].vectors[0] @ found.controls["random"].vectors[0].T
    assert np.abs(cosines - np.eye(20)).max() < 0.98
    summary = summarise(store, from_token=START)
    held = summary.of_split("held_out")
    rain = summary.stories["topic"].to_numpy()[held] == "rain"
    assert roc_auc_score(rain, summary.story_means[held, 0] @ found.controls["content"].vectors[0, 0]) > 0.8


def test_auroc_equals_scikit_learn_with_ties():
    source = np.random.default_rng(1)
    labels = source.integers(0, 5, 200)
    scores = np.round(source.standard_normal((200, 5)) + (labels[:, None] == np.arange(5)), 1)  # many ties
    found = one_vs_others_auroc(scores, labels)
    np.testing.assert_allclose(
        found, [roc_auc_score(labels == column, scores[:, column]) for column in range(5)], atol=1e-12
    )


def test_auroc_edges():
    assert one_vs_others_auroc(np.array([[0.0], [1.0], [2.0]]), np.array([-1, -1, 0])).tolist() == [1.0]
    assert one_vs_others_auroc(np.array([[1.0], [1.0]]), np.array([0, -1])).tolist() == [0.5]
    assert np.isnan(one_vs_others_auroc(np.array([[1.0], [1.0]]), np.array([-1, -1]))).all()


def test_save_and_load(world, tmp_path):
    store, _ = world
    found = learn_directions(store, DirectionSettings(from_token=START))
    found.save(tmp_path / "d.h5")
    assert EmotionDirections.load(tmp_path / "d.h5").content_hash == found.content_hash


def test_default_sites():
    sites = tuple("abcdef")
    assert (
        site_at_depth(sites, 2 / 3),
        site_at_depth(sites, 0.5),
        site_at_depth(sites, 0),
        site_at_depth(sites, 1),
    ) == ("d", "c", "a", "f")


@pytest.mark.parametrize(
    "settings, word",
    [
        (DirectionSettings(from_token=200), "200 tokens"),
        (DirectionSettings(from_token=START, held_out_split="score"), "has 0 stories in the split 'score'"),
        (DirectionSettings(from_token=START, min_stories=50), "at least 50"),
        (DirectionSettings(from_token=START, neutral_kinds=("poem",)), "no neutral text"),
        (DirectionSettings(from_token=START, content_topics=("raim",)), "did you mean 'rain'"),
        (DirectionSettings(from_token=START, estimator="magic"), "difference_of_means"),
    ],
)
def test_bad_settings(world, settings, word):
    with pytest.raises(UserError, match=word):
        learn_directions(world[0], settings)


@pytest.mark.parametrize(
    "asked, word",
    [
        ({"emotions": ("calm", "hapy")}, "did you mean 'happy'"),
        ({"emotions": ("calm",)}, "at least two"),
        ({"control_emotion": "sad"}, "unknown emotion 'sad'"),
    ],
)
def test_unknown_emotions(world, asked, word):
    with pytest.raises(UserError, match=word):
        learn_directions(world[0], DirectionSettings(from_token=START), **asked)


def test_stories_cannot_start_at_the_attention_sink(world):
    with pytest.raises(UserError, match="directions.from_token is 0; expected at least 1"):
        DirectionSettings(from_token=0)
    with pytest.raises(UserError, match="attention sink"):
        summarise(world[0], from_token=0)
