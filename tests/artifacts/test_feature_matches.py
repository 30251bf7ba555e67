"""Feature matches: write and read are equality, wrong parts are refused."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.errors import UserError
from emocircuits.provenance import Provenance

SITES, EMOTIONS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post"), ("calm", "desperate", "joyful")


def matches(rows=3):
    rng = np.random.default_rng(0)
    shape = (2, 3, 5)
    table = pd.DataFrame(
        {
            "emotion": ["desperate", "desperate", "calm"],
            "site": [SITES[0], SITES[1], SITES[0]],
            "feature": [4, 1, 2],
            "delta": [2.0, 1.0, 0.5],
            "cosine": [0.4, 0.3, -0.1],
            "auroc": [0.9, 0.8, 0.7],
            "p_value": [0.01, 0.02, 0.5],
            "q_value": [0.03, 0.04, 0.5],
            "kept": [True, True, False],
        }
    ).iloc[:rows]
    return FeatureMatches(
        emotions=EMOTIONS,
        sites=SITES,
        scores={
            n: rng.normal(size=shape).astype(np.float32) for n in ("delta", "auroc", "cosine", "attribution")
        },
        null={
            "p_value": rng.random(shape),
            "level": np.array([0.5, 0.95]),
            "eligible": rng.random((2, 5)) > 0.5,
        },
        table=table,
        residual_share=rng.random((2, 3)).astype(np.float32),
        model_hash="m",
        provenance=Provenance("match", 3, {"a": "b"}, {"n": 1}),
    )


@pytest.mark.parametrize("rows", [3, 0])
def test_write_read_is_equality(tmp_path, rows):
    made = matches(rows)
    made.save(tmp_path / "m.h5")
    read = FeatureMatches.load(tmp_path / "m.h5")
    assert (
        read.content_hash == made.content_hash
        and read.provenance == made.provenance
        and read.model_hash == "m"
    )
    assert read.emotions == EMOTIONS and read.sites == SITES
    for group in ("scores", "null"):
        assert getattr(read, group).keys() == getattr(made, group).keys()
        for name, array in getattr(made, group).items():
            np.testing.assert_array_equal(getattr(read, group)[name], array)
            assert getattr(read, group)[name].dtype == array.dtype
    assert list(read.table.columns) == list(made.table.columns)
    for name in made.table.columns:
        assert read.table[name].tolist() == made.table[name].tolist()
    np.testing.assert_array_equal(read.residual_share, made.residual_share)


def test_kept_and_score():
    made = matches()
    assert made.kept("desperate")["feature"].tolist() == [4, 1]
    assert made.kept("desperate", SITES[1])["feature"].tolist() == [1]
    assert made.kept("calm").empty
    np.testing.assert_array_equal(made.score("delta", "joyful", SITES[1]), made.scores["delta"][1, 2])
    assert "3 emotions × 2 sites × 5 features, 2 kept" in repr(made)
    for call in (
        lambda: made.kept("joyfull"),
        lambda: made.kept("calm", "blocks.7.hook_resid_post"),
        lambda: made.score("delt", "calm", SITES[0]),
    ):
        with pytest.raises(UserError, match="unknown"):
            call()


def test_wrong_parts_are_refused(tmp_path):
    made = matches()
    with pytest.raises(UserError, match="without the score auroc"):
        replace(made, scores={n: a for n, a in made.scores.items() if n != "auroc"})
    with pytest.raises((UserError, TypeError), match="shape|Type-check"):
        replace(made, scores={**made.scores, "delta": made.scores["delta"][:1]})
    with pytest.raises(UserError, match="'cosine' holds NaN"):
        replace(made, scores={**made.scores, "cosine": np.full((2, 3, 5), np.nan, np.float32)})
    with pytest.raises(UserError, match="no column q_value"):
        replace(made, table=made.table.drop(columns="q_value"))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="foreign"):
        FeatureMatches.load(tmp_path / "x.h5")
