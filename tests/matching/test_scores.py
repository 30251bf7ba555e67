"""Every score against an explicit loop in float64 or against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from emocircuits.matching import MATCH_SCORES, MatchInputs
from emocircuits.matching.auroc import one_vs_others
from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.delta import residual, residual_share
from emocircuits.matching.standardised_delta import standardised


def inputs(seed=0, stories=41, emotions=4, features=9, width=6, held=23):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(emotions), rng.integers(0, emotions, stories - emotions)])
    values = np.round(
        rng.exponential(size=(stories, features)) * (rng.random((stories, features)) < 0.6), 1
    ).astype(np.float32)
    values[:, 3] = 0.7
    directions = rng.normal(size=(emotions, width))
    return MatchInputs(
        values,
        StoryContrast(labels, emotions),
        np.round(rng.exponential(size=(held, features)), 1).astype(np.float32),
        rng.integers(0, emotions, held),
        rng.normal(size=(features, width)).astype(np.float32),
        (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32),
        rng.normal(size=(width, features)).astype(np.float32),
    )


def loop_contrast(values, labels, emotions):
    out = np.zeros((emotions, values.shape[1]))
    for emotion in range(emotions):
        own = np.mean([v for v, label in zip(values.astype(np.float64), labels) if label == emotion], axis=0)
        others = [
            np.mean([v for v, label in zip(values.astype(np.float64), labels) if label == other], axis=0)
            for other in range(emotions)
            if other != emotion
        ]
        out[emotion] = own - np.mean(others, axis=0)
    return out


@pytest.mark.parametrize("name", MATCH_SCORES.names())
def test_every_score_is_finite_and_follows_a_permutation_of_features(name):
    given_inputs = inputs()
    score = MATCH_SCORES.get(name).compute
    values = score(given_inputs)
    assert values.shape == (4, 9) and np.isfinite(values).all()
    order = np.random.default_rng(1).permutation(9)
    permuted = MatchInputs(
        given_inputs.features[:, order],
        given_inputs.contrast,
        given_inputs.held_features[:, order],
        given_inputs.held_labels,
        given_inputs.decoder[order],
        given_inputs.directions,
        given_inputs.encoder[:, order],
    )
    tight = dict(rtol=1e-4, atol=1e-6) if values.dtype == np.float32 else dict(rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(score(permuted), values[:, order], **tight)


@pytest.mark.parametrize("name", ["cosine", "encoder_cosine", "attribution", "omp"])
def test_a_negated_direction_flips_the_sign(name):
    given_inputs = inputs()
    flipped = MatchInputs(
        given_inputs.features,
        given_inputs.contrast,
        given_inputs.held_features,
        given_inputs.held_labels,
        given_inputs.decoder,
        -given_inputs.directions,
        given_inputs.encoder,
    )
    np.testing.assert_allclose(
        MATCH_SCORES.get(name).compute(flipped), -MATCH_SCORES.get(name).compute(given_inputs)
    )


def test_delta_and_attribution_equal_loops():
    given_inputs = inputs()
    expected = loop_contrast(given_inputs.features, given_inputs.contrast.labels, 4)
    np.testing.assert_allclose(
        MATCH_SCORES.get("delta").compute(given_inputs), expected, rtol=1e-12, atol=1e-14
    )
    attribution = MATCH_SCORES.get("attribution").compute(given_inputs)
    for emotion in range(4):
        for feature in range(9):
            written = float(
                given_inputs.decoder[feature].astype(np.float64)
                @ given_inputs.directions[emotion].astype(np.float64)
            )
            assert attribution[emotion, feature] == pytest.approx(
                expected[emotion, feature] * written, rel=1e-9, abs=1e-12
            )


def test_decoder_cosine_equals_a_loop():
    given_inputs = inputs()
    for emotion in range(4):
        for feature in range(9):
            a, b = (
                given_inputs.decoder[feature].astype(np.float64),
                given_inputs.directions[emotion].astype(np.float64),
            )
            assert MATCH_SCORES.get("cosine").compute(given_inputs)[emotion, feature] == pytest.approx(
                a @ b / np.linalg.norm(a), rel=1e-9
            )


def test_z_is_delta_over_its_standard_error():
    """The spread of z over random labels is 1, and z of a constant feature is 0."""
    given_inputs = inputs()
    z = MATCH_SCORES.get("standardised_delta").compute(given_inputs)
    assert (z[:, 3] == 0).all()
    spread = given_inputs.features.astype(np.float64).std(axis=0)
    counts = np.bincount(given_inputs.contrast.labels)
    for emotion in range(4):
        error = np.sqrt(1 / counts[emotion] + sum(1 / counts[o] for o in range(4) if o != emotion) / 9)
        for feature in (0, 5, 8):
            delta = loop_contrast(given_inputs.features, given_inputs.contrast.labels, 4)[emotion, feature]
            assert z[emotion, feature] == pytest.approx(delta / (spread[feature] * error), rel=1e-5)
    rng = np.random.default_rng(0)
    draws = [
        (
            StoryContrast(rng.permutation(given_inputs.contrast.labels), 4).apply(
                standardised(given_inputs.features)
            )
            / given_inputs.contrast.standard_error()[:, None]
        )
        for _ in range(400)
    ]
    assert np.std(draws, axis=0)[:, [0, 1, 2, 4, 5, 6, 7, 8]] == pytest.approx(1.0, abs=0.15)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), stories=st.integers(5, 40), features=st.integers(1, 6))
def test_auroc_equals_scikit_learn(seed, stories, features):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, stories - 3)])
    # many ties
    values = np.round(rng.exponential(size=(stories, features)), 1) * (rng.random((stories, features)) < 0.7)
    got = one_vs_others(values, labels, 4)
    for emotion in range(3):
        for feature in range(features):
            assert got[emotion, feature] == pytest.approx(
                roc_auc_score(labels == emotion, values[:, feature]), abs=1e-12
            )
    assert (got[3] == 0.5).all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    width=st.integers(2, 8),
    features=st.integers(1, 12),
    emotions=st.integers(2, 5),
)
def test_the_decomposition_is_exact(seed, width, features, emotions):
    """v = Σ Δf_i W_dec[i] + Δε for any dictionary and any code, in float64 to 1e-12."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(emotions), rng.integers(0, emotions, 20)])
    codes, decoder, bias = (
        rng.exponential(size=(len(labels), features)),
        rng.normal(size=(features, width)),
        rng.normal(size=width),
    )
    errors = rng.normal(size=(len(labels), width))
    stream = codes @ decoder + bias + errors
    v, rest = residual(StoryContrast(labels, emotions), stream, codes, decoder)
    np.testing.assert_allclose(v, loop_contrast(stream, labels, emotions), atol=1e-12)
    np.testing.assert_allclose(rest, loop_contrast(errors, labels, emotions), atol=1e-12)
    np.testing.assert_allclose(v, loop_contrast(codes, labels, emotions) @ decoder + rest, atol=1e-12)
    share = residual_share(StoryContrast(labels, emotions), stream, codes, decoder)
    np.testing.assert_allclose(share, (rest**2).sum(1) / (v**2).sum(1), rtol=1e-10)
    assert residual_share(StoryContrast(labels, emotions), codes @ decoder, codes, decoder) == pytest.approx(
        0.0, abs=1e-20
    )
