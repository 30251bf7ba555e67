"""The whole match on a planted world whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from matching.matching_world import (
    DEAD,
    DENSE,
    EMOTIONS,
    FEATURES,
    FIRST,
    LENGTH,
    OWN,
    RARE,
    SHARED,
    SITES,
    build,
    sae_of,
    world,  # noqa: F401
)

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.errors import UserError
from emocircuits.matching import MatchSettings, match_features
from emocircuits.matching.story_features import story_features


@pytest.fixture(scope="module")
def matches(world) -> FeatureMatches:
    return match_features(
        world.store, world.saes, world.directions, MatchSettings(permutations=99, min_stories=4)
    )


def test_the_planted_features_and_no_others_are_kept(matches):
    for emotion, own in OWN.items():
        for site in SITES:
            assert set(matches.kept(emotion, site)["feature"]) == set(own)
    table = matches.table[matches.table["kept"]]
    assert (
        (table["q_value"] <= 0.05).all()
        and (table["delta"] > 0).all()
        and (table["auroc"] > 0.75).all()
        and (table["cosine"] > 0.3).all()
    )
    assert not set(table["feature"]) & {SHARED, DENSE, DEAD, RARE}
    assert matches.scores["delta"].shape == (2, 4, FEATURES) and matches.model_hash == "m"
    assert set(matches.table["emotion"]) == set(EMOTIONS)


def test_dense_dead_and_rare_features_take_no_part(matches):
    eligible = matches.null["eligible"]
    assert not eligible[:, [DENSE, DEAD, RARE]].any() and eligible[:, [0, 7, 20]].all()
    assert (matches.null["p_value"][:, :, [DENSE, DEAD, RARE]] == 1).all()
    assert matches.null["density"][0, DENSE] > 0.9 and matches.null["density"][0, DEAD] < 0.02


def test_story_features_equal_a_loop(world):
    stories = np.array([0, 1, 5, 40, 95])
    got = story_features(world.store, world.saes[SITES[1]], SITES[1], stories, from_token=FIRST)
    sae = world.saes[SITES[1]]
    import torch

    for place, story in enumerate(stories):
        x = world.store.read(SITES[1], np.arange(story * LENGTH + FIRST, (story + 1) * LENGTH))
        acts = torch.relu((torch.from_numpy(x) - sae.b_dec) @ sae.W_enc + sae.b_enc).detach().double().numpy()
        np.testing.assert_allclose(got.features[place], acts.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got.stream[place], x.astype(np.float64).mean(0), rtol=1e-5)
        assert (got.firings[place] == (acts != 0).sum(0)).all()
    labels = np.array([EMOTIONS.index(e) for e in world.store.prompts["emotion"]])
    labels[labels == 3] = -1
    seen = story_features(world.store, sae, SITES[1], stories, from_token=FIRST, groups=labels)
    whole, outside = seen.density, seen.density_elsewhere
    rows = np.flatnonzero(world.store.positions > 0)
    fires = sae.encode(torch.from_numpy(world.store.read(SITES[1], rows))).detach().numpy() != 0
    np.testing.assert_allclose(whole, fires.mean(0))
    of_row = labels[world.store.prompt_index[rows]]
    np.testing.assert_allclose(
        outside, np.min([fires.mean(0), *(fires[of_row != e].mean(0) for e in range(3))], axis=0)
    )


def test_stories_with_the_same_rows_have_the_same_features(world, tmp_path):
    site, n = SITES[1], world.store.n_prompts
    values = {site: np.array(world.store.read(site, slice(0, world.store.n_rows))) for site in SITES}
    for rows in values.values():
        rows[40 * LENGTH : 41 * LENGTH] = rows[LENGTH : 2 * LENGTH]
    prompts = world.store.prompts[["id", "emotion", "kind", "named", "split"]]
    about = ({"model_hash": "m"}, "float32")
    with ActivationStoreWriter(
        tmp_path / "twins.h5", SITES, world.store.d_model, prompts, [np.arange(LENGTH)] * n, *about
    ) as writer:
        writer.append(np.arange(n), values)
        writer.finish()
    store, stories = ActivationStore.open(tmp_path / "twins.h5"), np.array([0, 1, 5, 40, 95])
    got = story_features(store, world.saes[site], site, stories, from_token=FIRST)
    usual = story_features(world.store, world.saes[site], site, stories, from_token=FIRST)
    for name in ("features", "stream", "firings"):
        expected = getattr(usual, name).copy()
        assert not np.array_equal(expected[3], expected[1])
        expected[3] = expected[1]
        np.testing.assert_allclose(getattr(got, name), expected, rtol=1e-5, atol=1e-6)


def test_blocks_smaller_than_a_story_change_nothing(world, monkeypatch):
    from emocircuits.matching import story_features as module

    stories = np.arange(20)
    whole = story_features(world.store, world.saes[SITES[0]], SITES[0], stories, from_token=FIRST)
    monkeypatch.setattr(module, "BLOCK", 5)
    pieces = story_features(world.store, world.saes[SITES[0]], SITES[0], stories, from_token=FIRST)
    np.testing.assert_allclose(pieces.features, whole.features, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pieces.firings, whole.firings)


def test_residual_share_is_what_the_features_leave(world, matches):
    fit = np.flatnonzero(world.store.prompts["split"] == "train")
    labels = world.store.prompts["emotion"].to_numpy()[fit]
    for number, site in enumerate(SITES):
        got = story_features(world.store, world.saes[site], site, fit, from_token=FIRST)
        for place, emotion in enumerate(EMOTIONS):
            means = {
                e: (
                    got.stream[labels == e].astype(np.float64).mean(0),
                    got.features[labels == e].astype(np.float64).mean(0),
                )
                for e in EMOTIONS
            }
            v, delta = (
                means[emotion][i] - np.mean([means[e][i] for e in EMOTIONS if e != emotion], axis=0)
                for i in (0, 1)
            )
            rest = v - delta @ got.decoder
            assert matches.residual_share[number, place] == pytest.approx(rest @ rest / (v @ v), rel=1e-4)
    assert (matches.residual_share < 0.2).all()


def test_permuting_the_features_permutes_the_matches(world, matches):
    order = np.random.default_rng(0).permutation(FEATURES)
    saes = {}
    for number, site in enumerate(SITES):
        sae = sae_of(site, number)
        sae.W_dec.data, sae.W_enc.data = sae.W_dec.data[order], sae.W_enc.data[:, order]
        saes[site] = sae
    permuted = match_features(
        world.store, saes, world.directions, MatchSettings(permutations=99, min_stories=4)
    )
    for name, values in matches.scores.items():
        np.testing.assert_allclose(permuted.scores[name], values[:, :, order], rtol=1e-3, atol=1e-5)
    for emotion in EMOTIONS:
        assert {(r.site, order[r.feature]) for r in permuted.kept(emotion).itertuples()} == {
            (r.site, r.feature) for r in matches.kept(emotion).itertuples()
        }


def test_a_world_without_emotions_keeps_next_to_nothing(tmp_path):
    kept = []
    for seed in range(6):
        world = (
            build(tmp_path / str(seed), effect=0.0, seed=seed)
            if (tmp_path / str(seed)).mkdir() is None
            else None
        )
        found = match_features(
            world.store, world.saes, world.directions, MatchSettings(permutations=99, min_stories=4)
        )
        kept.append(int(found.table["kept"].sum()))
        assert set(found.table["emotion"]) == set(EMOTIONS)
    assert sum(count > 0 for count in kept) <= 2


def test_same_seed_same_matches_and_round_trip(world, matches, tmp_path):
    again = match_features(
        world.store, world.saes, world.directions, MatchSettings(permutations=99, min_stories=4)
    )
    assert again.content_hash == matches.content_hash
    matches.save(tmp_path / "m.h5")
    assert FeatureMatches.load(tmp_path / "m.h5").content_hash == matches.content_hash


def test_what_does_not_fit_together_is_refused(world):
    with pytest.raises(UserError, match="another model"):
        match_features(world.store, world.saes, replace(world.directions, model_hash="other"))
    with pytest.raises(UserError, match="no SAE for blocks.1"):
        match_features(world.store, {SITES[0]: world.saes[SITES[0]]}, world.directions)
    with pytest.raises(UserError, match="has no token from position"):
        story_features(world.store, world.saes[SITES[0]], SITES[0], np.array([0]), from_token=50)
    with pytest.raises(UserError, match="no story shows the emotion"):
        match_features(
            world.store,
            world.saes,
            replace(world.directions, settings={**world.directions.settings, "fit_split": "nowhere"}),
        )
    with pytest.raises(UserError, match="trained on"):
        match_features(
            world.store, {SITES[0]: world.saes[SITES[1]], SITES[1]: world.saes[SITES[0]]}, world.directions
        )
