"""Roles in a planted store: what is there is found, what is not reads at chance."""

import numpy as np
import pandas as pd
import pytest

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.directions import DirectionSettings
from emocircuits.errors import UserError
from emocircuits.experiments.speakers import role_readings, role_similarity, speaker_directions

SITE, EMOTIONS, D = "blocks.0.hook_resid_post", tuple("abcdef"), 24


SETTINGS = DirectionSettings(
    neutral_variance=0.0, content_controls=0, bootstrap=0, read_depth=1.0, min_stories=2
)


def planted(path, present=2.0, other=2.0):
    """Tokens hold the present speaker's vector, and the other's turned into another subspace with the same
    structure.
    """
    source = np.random.default_rng(0)
    base = source.standard_normal((len(EMOTIONS), D // 2))
    rows, values = [], []
    for number in range(720):
        one, two = source.integers(0, len(EMOTIONS), 2)
        rows.append(
            dict(
                id=f"u{number}",
                emotion=EMOTIONS[one],
                other=EMOTIONS[two],
                shown="",
                topic="",
                kind="speaker",
                behaviour="",
                side="",
                split="train" if number % 4 else "held_out",
                named=False,
            )
        )
        values.append(
            np.concatenate([present * base[one], other * base[two]]) + source.standard_normal((6, D)) * 3
        )
    for number in range(30):
        rows.append(
            dict(
                id=f"n{number}",
                emotion="",
                other="",
                shown="",
                topic="",
                kind="neutral",
                behaviour="",
                side="",
                split="train",
                named=False,
            )
        )
        values.append(source.standard_normal((6, D)))
    with ActivationStoreWriter(
        path,
        (SITE,),
        D,
        pd.DataFrame(rows),
        [np.arange(6)] * len(rows),
        {"model_hash": "m", "model_name": "n"},
        "float32",
    ) as writer:
        for number, x in enumerate(values):
            writer.append([number], {SITE: x.astype(np.float32)})
        writer.finish()
    return ActivationStore.open(path)


def test_two_roles_side_by_side(tmp_path):
    store = planted(tmp_path / "a.h5")
    found = speaker_directions(store, SETTINGS)
    assert set(found) == {"present", "other"} and found["present"].emotions == EMOTIONS
    table = role_readings(store, found).set_index(["directions", "label"]).auroc
    assert table["present", "present"] > 0.8 and table["other", "other"] > 0.8
    assert abs(table["present", "other"] - 0.5) < 0.08 and abs(table["other", "present"] - 0.5) < 0.08
    likeness = role_similarity(found).iloc[0]
    assert abs(likeness.same) < 0.2 and likeness.structure > 0.6  # orthogonal, with the same structure


def test_a_role_that_is_not_kept_reads_at_chance(tmp_path):
    store = planted(tmp_path / "a.h5", other=0.0)
    table = role_readings(store, speaker_directions(store, SETTINGS)).set_index(["directions", "label"])
    row = table.loc[("other", "other")]
    assert row.ci_low < 0.5 < row.ci_high and table.loc[("present", "present")].ci_low > 0.7


def test_a_store_without_dialogues_is_refused(tmp_path):
    store = planted(tmp_path / "a.h5")
    with pytest.raises(UserError, match="no dialogues of two speakers"):
        speaker_directions(
            type(store)(**{**vars(store), "prompts": store.prompts.assign(kind="poem")}), SETTINGS
        )
