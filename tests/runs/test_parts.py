"""Finished parts of a stage: taken instead of made, of one key, gone when the stage is done."""

import pytest

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.runs.parts import Parts


def never():
    raise AssertionError("a part was made again")


def test_a_part_is_made_once(tmp_path):
    first = Parts(tmp_path, "steer", "key")
    assert first("a table of / things", lambda: [1.5]) == [1.5]
    again = Parts(tmp_path, "steer", "key")
    assert again("a table of / things", never) == [1.5]
    with pytest.raises(AssertionError, match="made again"):
        again("another", never)


def test_parts_of_another_key_or_stage_do_not_count(tmp_path):
    Parts(tmp_path, "steer", "key")("a", lambda: 1)
    assert Parts(tmp_path, "circuit", "key")("a", lambda: 2) == 2
    assert Parts(tmp_path, "steer", "other")("a", lambda: 3) == 3
    assert Parts(tmp_path, "steer", "key")("a", lambda: 4) == 4


def test_artifacts_are_kept_in_their_own_form(tmp_path, debug_run):
    directions = EmotionDirections.load(debug_run / "directions.h5")
    Parts(tmp_path, "directions", "key")("directions", lambda: directions, EmotionDirections)
    taken = Parts(tmp_path, "directions", "key")("directions", never, EmotionDirections)
    assert taken.content_hash == directions.content_hash


def test_nothing_is_left_when_the_stage_is_done(tmp_path):
    parts = Parts(tmp_path, "steer", "key")
    parts("a", lambda: 1)
    parts.clear()
    assert list(tmp_path.iterdir()) == []
