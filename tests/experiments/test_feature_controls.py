"""What stands against an emotion's features: as many, of the same firing rates, and never the same ones."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fixtures.make_directions import directions_for

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.experiments.feature_controls import (
    ControlSettings,
    held_sets,
    significant_features,
    site_checks,
)
from emocircuits.provenance import Provenance

SITES, EMOTIONS, D_SAE = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"), ("calm", "desperate"), 200


@pytest.fixture(scope="module")
def matches():
    source = np.random.default_rng(0)
    shape = (2, 2, D_SAE)
    eligible = source.random((2, D_SAE)) > 0.2
    usable = [np.flatnonzero(row) for row in eligible]
    table = pd.DataFrame(
        {
            "emotion": "desperate",
            "site": [SITES[0]] * 3 + [SITES[1]],
            "feature": [*usable[0][:3], usable[1][5]],
            **dict.fromkeys(("delta", "cosine", "auroc", "p_value", "q_value"), 1.0),
            "kept": [True, True, True, False],
        }
    )
    return FeatureMatches(
        emotions=EMOTIONS,
        sites=SITES,
        scores={
            name: source.normal(size=shape).astype(np.float32)
            for name in ("delta", "auroc", "cosine", "attribution")
        },
        null={
            "q_value": source.random(shape),
            "eligible": eligible,
            "density": 10 ** source.uniform(-3, -1, (2, D_SAE)),
        },
        table=table,
        residual_share=np.zeros((2, 2), np.float32),
        model_hash="m",
        provenance=Provenance("match", 3, {}, {}),
    )


def test_sets_are_as_large_as_the_carriers_and_apart_from_them(matches):
    sets = {held.name: held for held in held_sets(matches, "desperate", SITES, share=0.05, n_random=3)}
    assert list(sets) == ["matched", "significant", "cosine", "all", "random 0", "random 1", "random 2"]
    for row, site in enumerate(SITES):
        carriers = matches.carriers("desperate", site, 0.05)
        assert np.array_equal(sets["matched"].features[site], carriers) and len(carriers) == 10
        assert len(sets["cosine"].features[site]) == 10 and len(sets["all"].features[site]) == D_SAE
        for number in range(3):
            chosen = sets[f"random {number}"].features[site]
            assert len(chosen) == 10 and not set(chosen) & set(carriers)
            assert matches.null["eligible"][row][chosen].all()


def test_random_features_fire_as_often(matches):
    held = {
        one.name: one.features[SITES[0]] for one in held_sets(matches, "desperate", SITES[:1], n_random=20)
    }
    rates = np.log(matches.null["density"][0])
    own = np.sort(rates[held["matched"]]).mean()
    drawn = np.mean([rates[held[f"random {number}"]].mean() for number in range(20)])
    assert abs(drawn - own) < 0.25 * rates.std()


def test_checks_are_made_where_a_match_is_kept(matches):
    model = SimpleNamespace(sites=SITES, d_model=8, content_hash="m")
    directions = directions_for(model, emotions=EMOTIONS)
    settings = ControlSettings(share=0.05, n_random=7, n_sets=4)
    (check,) = site_checks(matches, directions, "desperate", settings=settings)
    kept = sorted(matches.kept("desperate", SITES[0])["feature"])
    assert check.site == SITES[0] and check.kept.tolist() == kept
    assert len(check.random) == 7 and not set(check.random) & {*kept, *check.carriers}
    assert check.random_sets.shape == (4, 10) and check.random_vectors.shape == (4, 8)
    np.testing.assert_array_equal(check.direction.vector, directions.vector("desperate", SITES[0]))
    np.testing.assert_allclose(
        check.carrier_weights, matches.score("delta", "desperate", SITES[0])[check.carriers]
    )
    assert not site_checks(matches, directions, "calm")


def test_significant_features_passed_whether_listed_or_not(matches):
    found = significant_features(matches, "desperate", SITES[1])
    expected = [
        feature
        for feature in range(D_SAE)
        if matches.null["eligible"][1, feature]
        and matches.scores["delta"][1, 1, feature] > 0
        and matches.null["q_value"][1, 1, feature] <= 0.05
    ]
    assert found.tolist() == expected and expected
