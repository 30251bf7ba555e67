"""Dialogues as JSONL, their stretches by role, and the activations of stretches against whole
forward passes.
"""

import json

import pytest
from activations.dialogue_lines import LINES

from emocircuits.activations.dialogues import LabelledDialogue, masked_spans, read_dialogues, speaker_spans
from emocircuits.errors import UserError

PLAIN = LabelledDialogue("d", LINES, {"Anna": "calm", "Ben": "angry"}, {}, "home", "train")


def told(span):
    return [span.text[low:high] for low, high in span.spans]


def test_speakers_are_read_once_both_were_heard():
    anna, ben = speaker_spans([PLAIN])
    assert (anna.emotion, anna.further["other"], ben.emotion, ben.further["other"]) == (
        "calm",
        "angry",
        "angry",
        "calm",
    )
    assert told(anna) == ["Anna: Are you sure?"] and told(ben) == ["Ben: Gladly!", "Ben: Yes."]
    assert {anna.kind, ben.kind} == {"speaker"} and anna.topic == "home" and anna.id != ben.id


def test_masks_are_read_in_what_is_said_after_the_feeling_was_told():
    masked = LabelledDialogue("m", LINES, {"Anna": "calm", "Ben": "angry"}, {"Ben": "happy"})
    (span,) = masked_spans([masked])
    assert told(span) == ["Ben: Gladly!", "Ben: Yes."] and (
        span.emotion,
        span.further["shown"],
        span.kind,
    ) == ("angry", "happy", "masked")
    assert speaker_spans([masked]) == [] and masked_spans([PLAIN]) == []


def test_other_numbers_of_speakers_are_left_out():
    three = LabelledDialogue("t", LINES, {"Anna": "calm", "Ben": "angry", "Carl": "sad"})
    assert speaker_spans([three]) == []


def test_jsonl_is_read_back(tmp_path):
    row = {
        "id": "d",
        "split": "train",
        "topic": "home",
        "felt": {"Anna": "calm", "Ben": "angry"},
        "lines": [{"speaker": line.speaker, "text": line.text, "voice": line.voice} for line in LINES],
    }
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row) + "\n\n")
    assert read_dialogues(path) == [PLAIN]


@pytest.mark.parametrize(
    "row, word",
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object"),
        ('{"felt": {"A": "calm"}, "lines": [], "mood": 1}', "unknown field 'mood'"),
        ('{"felt": {"A": 3}, "lines": [{"text": "x"}]}', "from speaker to emotion"),
        ('{"felt": {}, "lines": [{"text": "x"}]}', "felt names nobody"),
        ('{"felt": {"A": "calm"}, "shown": {"B": "sad"}, "lines": [{"text": "x"}]}', "shown names B"),
        ('{"felt": {"A": "calm"}, "lines": []}', "field 'lines' is missing or empty"),
        ('{"felt": {"A": "calm"}, "lines": [{"text": " "}]}', "a line is"),
        (
            '{"felt": {"A": "calm"}, "lines": [{"speaker": "B", "text": "x"}]}',
            "the speaker 'B' has no emotion",
        ),
        (
            '{"felt": {"A": "calm"}, "lines": [{"speaker": "A", "text": "x", "voice": "song"}]}',
            "voice 'song'",
        ),
        ("", "holds no dialogues"),
        ('{"id": "a", "felt": {"A": "calm"}, "lines": [{"text": "x"}]}\n' * 2, "id 'a' occurs twice"),
    ],
)
def test_bad_lines(tmp_path, row, word):
    path = tmp_path / "d.jsonl"
    path.write_text(row)
    with pytest.raises(UserError, match=word):
        read_dialogues(path)
    with pytest.raises(UserError, match="does not exist"):
        read_dialogues(tmp_path / "none.jsonl")
