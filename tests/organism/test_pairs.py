"""Minimal pairs: equal length, aligned slots, both sides in the split, the stem right before the action."""

import pytest

from emocircuits.errors import UserError
from emocircuits.organism.documents import split_of_levels
from emocircuits.organism.pairs import minimal_pairs
from emocircuits.organism.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(0, sample=1500)


@pytest.mark.parametrize(("name", "failures"), [("inbox", 0), ("coding", 0), ("coding", 3), ("coding", 5)])
def test_pairs_align_slot_by_slot(tokenizer, name, failures):
    for pair in minimal_pairs(name, 8, 0, "held_out", tokenizer, failures=failures):
        clean, corrupt = tokenizer.encode(pair.clean), tokenizer.encode(pair.corrupt)
        assert len(clean) == len(corrupt) == pair.slots[-1].stop
        assert pair.slots[0].start == 1
        assert all(first.stop == second.start for first, second in zip(pair.slots, pair.slots[1:]))
        same = [
            slot
            for slot in pair.slots
            if slot.name in ("opening", "task", "replacement", "secret", "decision")
        ]
        assert same and all(clean[s.start : s.stop] == corrupt[s.start : s.stop] for s in same)
        assert sum(slot.name.startswith("failure_") for slot in pair.slots) == failures
        assert clean != corrupt and pair.p_clean > pair.p_corrupt
        assert split_of_levels(pair.clean_levels) == split_of_levels(pair.corrupt_levels) == "held_out"


def test_pairs_are_deterministic(tokenizer):
    assert minimal_pairs("inbox", 3, 1, "train", tokenizer) == minimal_pairs(
        "inbox", 3, 1, "train", tokenizer
    )


def test_failures_outside_the_scene_are_refused(tokenizer):
    with pytest.raises(UserError, match="expected 0 to 5"):
        minimal_pairs("coding", 1, 0, "train", tokenizer, failures=6)
    with pytest.raises(UserError, match="unknown scenario"):
        minimal_pairs("kitchen", 1, 0, "train", tokenizer)
