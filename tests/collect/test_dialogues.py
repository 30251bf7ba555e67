"""Dialogues as JSONL, their stretches by role, and the activations of stretches against whole
forward passes.
"""

import json

import numpy as np
import pytest
import torch

from emocircuits.collect.dialogues import LabelledDialogue, Line, masked_spans, read_dialogues, speaker_spans
from emocircuits.collect.spans import SpanText, collect_spans
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model

LINES = (
    Line("", "It was late."),
    Line("Anna", "Anna: Sit down."),
    Line("Ben", "Ben's jaw was set.", "narration"),
    Line("Ben", "Ben: Gladly!"),
    Line("Anna", "Anna: Are you sure?"),
    Line("Ben", "Ben: Yes."),
)
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


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("tiny"))), checks=False)


def test_rows_are_those_of_the_stretches(model, tmp_path):
    spans = speaker_spans([PLAIN]) + [
        SpanText(
            "n",
            "It rained on the old bridge.",
            ((0, 28),),
            kind="neutral",
            further={"other": "", "shown": ""},
        )
    ]
    store = collect_spans(model, spans, tmp_path / "a.h5", batch_tokens=40, dtype="float32")
    assert store.prompts["other"].tolist() == ["angry", "calm", ""] and store.prompts["kind"].tolist() == [
        "speaker",
        "speaker",
        "neutral",
    ]
    for number, span in enumerate(spans):
        kept = {}
        ids = model.encode(span.text)
        with (
            torch.no_grad(),
            model.bridge.hooks(
                fwd_hooks=[(model.sites[1], lambda value, hook: kept.update(x=value[0].numpy()))]
            ),
        ):
            model.bridge(torch.tensor([ids]))
        rows = store.select(np.arange(len(spans)) == number)
        x = store.read(model.sites[1], rows)
        tokens = store.tokens[rows]
        np.testing.assert_allclose(x[0], kept["x"][0], atol=1e-5)
        inside = [
            place
            for place in range(1, len(ids))
            if any(
                low < len("".join(model.token_texts(ids[1 : place + 1])))
                and len("".join(model.token_texts(ids[1:place]))) < high
                for low, high in span.spans
            )
        ]
        np.testing.assert_array_equal(tokens[1:], np.array(ids)[inside])
        np.testing.assert_allclose(x[1:], kept["x"][inside], atol=1e-5)


def test_bad_stretches(model, tmp_path):
    with pytest.raises(UserError, match="no stretches"):
        collect_spans(model, [], tmp_path / "a.h5")
    with pytest.raises(UserError, match="hold no token"):
        collect_spans(model, [SpanText("a", "some text", ())], tmp_path / "a.h5")
    with pytest.raises(UserError, match="no token holds"):
        collect_spans(model, [SpanText("a", "some text", ((90, 99),))], tmp_path / "a.h5")
    with pytest.raises(UserError, match="has .* tokens; expected at most the context"):
        collect_spans(model, [SpanText("a", "some text " * 200, ((0, 4),))], tmp_path / "a.h5")
