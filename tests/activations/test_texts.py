"""Texts by name: what a source is asked for, what is refused, and that a run reads the same."""

import json
from collections import Counter

import pytest

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.settings import CollectSettings
from emocircuits.activations.texts import TEXT_SOURCES, TextSource, load_texts
from emocircuits.errors import UserError

FEW = CollectSettings(
    emotions=("desperate", "calm"), stories_per_emotion=3, neutral_texts=2, further_texts=20
)


def test_the_organism_has_stories_of_the_emotions_that_are_asked_for():
    texts = load_texts("organism", FEW)
    stories = Counter((text.emotion, text.split) for text in texts if text.kind == "story")
    assert stories == {
        (emotion, split): count
        for emotion in FEW.emotions
        for split, count in (("train", 3), ("held_out", 2))
    }
    kinds = Counter(text.kind for text in texts)
    assert kinds["neutral"] == 2 and kinds["inbox"] == 7 and kinds["coding"] == 6
    assert load_texts("organism", FEW) == texts != load_texts("organism", FEW, seed=1)


def test_the_planted_models_words_fill_both_splits():
    texts = load_texts("planted", CollectSettings(stories_per_emotion=10, neutral_texts=10))
    assert len(texts) == 60 and {text.split for text in texts} == {"train", "held_out"}


def test_a_file_is_read_as_it_is(tmp_path):
    lines = [
        {"id": f"{emotion}/{split}", "text": f"a {emotion} text", "emotion": emotion, "split": split}
        for emotion in ("desperate", "calm")
        for split in ("train", "held_out")
    ]
    lines.append({"id": "n", "text": "a text", "kind": "neutral"})
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [text.id for text in load_texts(path)] == [line["id"] for line in lines]
    with pytest.raises(UserError, match="unknown emotion 'happy'"):
        load_texts(str(path), CollectSettings(emotions=("happy",)))


def test_a_registered_source_is_asked_with_settings_and_seed():
    asked = []

    def texts(request):
        asked.append(request)
        return load_texts("planted", request.settings, seed=request.seed)

    with TEXT_SOURCES.temporarily(TextSource("own", "texts of my own", texts)):
        assert load_texts("own", seed=3) == load_texts("planted", seed=3)
    (request,) = asked
    assert request.seed == 3 and request.settings == CollectSettings() and request.model is None


@pytest.mark.parametrize("name", ["self_written", "asked"])
def test_texts_that_a_model_writes_need_the_model_and_a_file(name, tmp_path):
    with pytest.raises(UserError, match="written by a model; expected model="):
        load_texts(name, keep=tmp_path / "stories.jsonl")
    with pytest.raises(UserError, match="expected keep="):
        load_texts("self_written", model=object())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([("desperate", "train"), ("desperate", "held_out")], "all stories show one emotion"),
        ([("desperate", "train"), ("calm", "train")], "has stories in the split train only"),
        (
            [(emotion, split) for emotion in ("calm", "sad") for split in ("train", "held_out")],
            "no neutral texts",
        ),
    ],
)
def test_texts_that_no_direction_can_be_learned_from_are_refused(texts, message):
    made = [
        LabelledText(str(number), "a text", *text[:1], split=text[1]) for number, text in enumerate(texts)
    ]
    with (
        TEXT_SOURCES.temporarily(TextSource("own", "texts of my own", lambda request: made)),
        pytest.raises(UserError, match=message),
    ):
        load_texts("own")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown material 'organsm'; did you mean 'organism'"):
        load_texts("organsm")
