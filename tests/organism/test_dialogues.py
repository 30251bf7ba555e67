"""Dialogues are balanced over emotions; masked ones think one thing and say another."""

import numpy as np

from emocircuits.organism.corpus import make_document
from emocircuits.organism.dialogues import balanced_pairs
from emocircuits.organism.documents import split_of
from emocircuits.studies.direction_studies import labelled_dialogue, organism_dialogues


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
