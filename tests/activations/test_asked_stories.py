"""A chat model is asked for stories of 171 emotions on 100 topics; what names the emotion is thrown away."""

import pytest

from emocircuits.activations.asked_stories import asked_material, neutral_dialogues
from emocircuits.activations.self_written import StorySettings, WritingPlan, read_report, write_stories
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = load_model(
        str(write_tiny_model("llama", tmp_path_factory.mktemp("chat"), TinyShape(n_ctx=512))), checks=False
    )
    made.tokenizer.chat_template = TEMPLATE
    return made


def test_every_emotion_has_requests_that_forbid_its_words(model):
    material = asked_material(model)
    assert len(material.emotions) == 171 and len(material.topics) == len(set(material.topics)) == 100
    for emotion in material.emotions:
        opening = material.plan(emotion, 1, 0, 0.25)[0]
        assert (
            f'"{emotion}"' in opening.text
            and opening.label.topic in opening.text
            and opening.label.text == ""
        )
        assert material.names(emotion, f"She was {emotion}.") and emotion in material.forbidden[emotion]
        assert material.names("", f"She was {emotion}.")


def test_topics_are_balanced_and_never_in_both_splits(model):
    material = asked_material(model)
    splits = {"train": set(), "held_out": set()}
    for emotion in ("happy", "sad"):
        planned = material.plan(emotion, 100, 3, 0.2)
        assert len({opening.label.topic for opening in planned}) == 100
        for opening in planned:
            splits[opening.label.split].add(opening.label.topic)
    assert len(splits["held_out"]) == 20 and not splits["train"] & splits["held_out"]


def test_stories_are_the_continuation_without_the_request(model, tmp_path, monkeypatch):
    # what a random model writes is broken
    monkeypatch.setattr("emocircuits.activations.story_writer.is_broken", lambda text, most: False)
    settings = StorySettings(new_tokens=30, min_new_tokens=4, attempts=8, batch_size=4)

    def write():
        return write_stories(
            model,
            WritingPlan(("calm", "sad"), 2, held_out_share=0.5),
            tmp_path / "s.jsonl",
            settings=settings,
            material=asked_material(model),
        )

    import emocircuits.activations.story_writer as story_writer

    with pytest.MonkeyPatch.context() as patch:  # a random model writes no sentences
        patch.setattr(story_writer, "whole_sentences", lambda opening, text: text)
        texts = write()
    assert texts and all(
        "<assistant>" not in text.text and "Write a short story" not in text.text for text in texts
    )
    assert texts == write() and read_report(tmp_path / "s.jsonl")["kept"] == len(texts)


def test_a_model_without_chat_is_told_what_else_there_is(tmp_path):
    model = load_model(str(write_tiny_model("gpt2", tmp_path)), checks=False)
    with pytest.raises(UserError, match="no chat template.*self_written"):
        asked_material(model)


def test_neutral_dialogues_name_no_emotion_and_split_by_topic(model):
    texts, material = neutral_dialogues(80, seed=1), asked_material(model)
    assert len({text.text for text in texts}) == 80 and all(
        text.kind == "neutral" and not text.emotion for text in texts
    )
    assert not [text.text for text in texts if material.names("", text.text)]
    topics = {split: {text.topic for text in texts if text.split == split} for split in ("train", "held_out")}
    assert topics["train"] and topics["held_out"] and not topics["train"] & topics["held_out"]
    assert texts == neutral_dialogues(80, seed=1)


def test_twelve_implicit_prompts_never_name_their_emotion(model):
    from emocircuits.experiments.implicit import read_implicit

    prompts, material = read_implicit(), asked_material(model)
    assert len(prompts) == 12 == len({emotion for emotion, _ in prompts})
    assert not [text for emotion, text in prompts if material.names(emotion, text)]
