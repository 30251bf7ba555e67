"""Roles in a planted store: what is there is found, what is not reads at chance."""

import numpy as np
import pandas as pd
import pytest

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.directions import DirectionSettings
from emocircuits.errors import UserError
from emocircuits.experiments.speakers import role_readings, role_similarity, speaker_directions
from emocircuits.organism.corpus import make_document
from emocircuits.organism.dialogues import balanced_pairs
from emocircuits.organism.documents import split_of
from emocircuits.studies.direction_studies import labelled_dialogue, organism_dialogues

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


def test_the_organisms_dialogues_are_balanced_and_keep_their_splits():
    for kind in ("dialogue", "masked"):
        for split, count in (("train", 6), ("held_out", 3)):
            pairs = balanced_pairs(kind, count, split)
            first, second = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
            for side in (first, second):
                counts = np.unique(side, return_counts=True)[1]
                assert len(counts) == 171 and counts.min() >= count and counts.max() <= count + 1
            assert all(split_of(kind, *pair) == split and pair[0] != pair[1] for pair in pairs)


def test_masked_dialogues_think_one_thing_and_say_another():
    made = make_document("masked", 3, seed=5, emotion="desperate", other="calm")
    dialogue = labelled_dialogue(made)
    assert (
        dialogue.felt["A"] == "desperate" and dialogue.shown == {"A": "calm"} and dialogue.text == made.text
    )
    told = [line for line in dialogue.lines if line.speaker == "A"]
    assert [line.voice for line in told][:2] == ["narration", "speech"] and made.mask == "calm"
    assert all(line.text.split(":")[0].isalpha() for line in told if line.voice == "speech")
    assert len({one.id for one in organism_dialogues(2, 1, 7)}) == len(organism_dialogues(2, 1, 7))
