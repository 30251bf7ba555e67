"""The components of neutral text are those that the paper's recipe projects out."""

import numpy as np
from directions.direction_world import SITE, labelled, plain_store

from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.directions.human_scores import without
from emocircuits.directions.neutral_basis import components_out, neutral_basis


def test_projecting_them_out_of_raw_directions_gives_the_recipes(tmp_path):
    x, labels = labelled(per_label=12)
    splits = np.where(np.arange(len(x)) % 4 == 0, "held_out", "train")
    store = plain_store(tmp_path / "a.h5", x, labels, splits=splits, neutral=40)
    few = dict.fromkeys(("random_controls", "covariance_controls", "content_controls", "bootstrap"), 0)
    how = DirectionSettings(from_token=1, neutral_variance=0.4, shuffled_controls=0, splits=0, **few)
    basis = neutral_basis(store, how, SITE, 8)
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-12)
    own = learn_directions(store, how).vectors[0]
    done = components_out(own, basis)
    assert 0 < done < 8
    raw = learn_directions(store, DirectionSettings(**{**vars(how), "neutral_variance": 0.0})).vectors[0]
    assert components_out(raw, basis) == 0
    cleaned = without(raw.astype(np.float64), basis[:, :done])
    cleaned /= np.linalg.norm(cleaned, axis=1, keepdims=True)
    np.testing.assert_allclose(cleaned, own, atol=1e-6)


def test_components_are_counted_from_the_largest_on():
    basis = np.eye(6)[:, :3]
    assert components_out(np.eye(6)[3:], basis) == 3
    assert components_out(np.eye(6)[2:], basis) == 2
    assert components_out(np.eye(6)[1:2], basis) == 1 and components_out(np.eye(6)[:1], basis) == 0
