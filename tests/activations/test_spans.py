"""Rows are those of the labelled stretches."""

import numpy as np
import pytest
import torch
from activations.dialogue_lines import LINES

from emocircuits.activations.dialogues import LabelledDialogue, speaker_spans
from emocircuits.activations.spans import SpanText, collect_spans
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model

PLAIN = LabelledDialogue("d", LINES, {"Anna": "calm", "Ben": "angry"}, {}, "home", "train")


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
