"""What is wrong with texts is found, and nothing else: planted leaks, repetitions and topics that tell."""

import json

import pytest

from emocircuits.activations import LabelledText
from emocircuits.cli.main import main
from emocircuits.errors import UserError
from emocircuits.numerics import generator
from emocircuits.studies.text_quality import text_quality

EMOTIONS, TOPICS = ("calm", "happy", "sad", "angry"), [f"topic{letter}" for letter in "abcdefghijkl"]


def material(*, tells: bool = False):
    """Texts of words that say the emotion, the topic and nothing; where topics tell, each has its own."""
    source, texts = generator(0, "material"), []
    for number in range(240):
        emotion = EMOTIONS[number % 4]
        place = number // 4 % 3 + 3 * (number % 4) if tells else number // 4 % 12
        noise = [f"noise{'abcdefghijklmnopqrstuvwxyz'[letter]}" for letter in source.integers(0, 26, 24)]
        about = [f"{TOPICS[place]}{letter}" for letter in "xyz"]
        words = [*noise, *about, f"feels{emotion[0]}"]
        source.shuffle(words)
        texts.append(
            LabelledText(
                f"{number}",
                " ".join(words),
                emotion,
                TOPICS[place],
                split="held_out" if place % 3 == 2 else "train",
            )
        )
    return texts


def test_texts_without_fault_have_none():
    found = text_quality(material())
    assert found.problems == [] and found.chance == 0.25
    assert found.topic_accuracy[1] <= 0.25 and found.word_accuracy[0] > 0.95
    assert [row["emotion"] for row in found.rows] == sorted(EMOTIONS)
    assert all(row["train"] == 40 and row["held_out"] == 20 and row["words"] == 28 for row in found.rows)


def test_topics_that_tell_the_emotion_are_found():
    found = text_quality(material(tells=True))
    assert found.topic_accuracy[0] > 0.95
    assert any("words of topics alone name the emotion" in line for line in found.problems)


def test_leaks_short_texts_repetitions_and_shared_topics_are_found():
    texts = material()
    extra = [
        LabelledText("leak", texts[0].text + " she sat there calmly", "calm", "topica"),
        LabelledText("short", "too short", "sad", "topica"),
        LabelledText("other", "one two " * 20, "sad", "topicc", split="train"),
    ]
    found = text_quality([*texts, *extra])
    assert found.named == ("leak",) and found.short == ("short",)
    assert ("0", "leak") in found.repeated and found.shared_topics == ("topicc",)
    assert len(found.problems) == 4


def test_texts_without_stories_are_refused():
    with pytest.raises(UserError, match="hold no story"):
        text_quality([LabelledText("n", "a text", kind="neutral")])


def test_the_command_tells_and_exits_by_what_it_found(tmp_path, capsys):
    path = tmp_path / "texts.jsonl"
    lines = [{"id": "n", "text": "a neutral text", "kind": "neutral"}]
    lines += [vars(text) for text in material()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["texts", str(path)]) == 0 and "nothing is wrong" in capsys.readouterr().out
    lines.append({"id": "leak", "text": "so calm " * 20, "emotion": "calm", "topic": "topica"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["texts", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["named"] == ["leak"]
