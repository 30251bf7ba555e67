"""Texts are read as they were written, and bad lines are named."""

import json

import pytest

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.story_files import read_stories, stories_jsonl
from emocircuits.errors import UserError


def test_written_and_read_is_identity(tmp_path):
    texts = [
        LabelledText("a", "He “ran”.", "sad", "park", split="held_out", named=True),
        LabelledText("b", "A cup.", kind="neutral"),
    ]
    (tmp_path / "t.jsonl").write_text(stories_jsonl(texts), encoding="utf-8")
    assert read_stories(tmp_path / "t.jsonl") == texts


def test_user_file_needs_little(tmp_path):
    (tmp_path / "mine.jsonl").write_text(
        '{"text": "He ran.", "emotion": "scared"}\n\n{"text": "A cup.", "kind": "neutral"}\n'
    )
    first, second = read_stories(tmp_path / "mine.jsonl")
    assert (
        first == LabelledText("mine/1", "He ran.", "scared")
        and second.id == "mine/3"
        and second.kind == "neutral"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("3", "line 2 holds int"),
        ('{"text": "x", "emotion": "sad", "colour": 1}', "line 2: unknown field 'colour'"),
        ('{"text": 3, "emotion": "sad"}', "line 2: field 'text' is 3; expected str"),
        ('{"text": "x", "emotion": "sad", "named": "no"}', "line 2: field 'named' is 'no'; expected bool"),
        ('{"emotion": "sad"}', "line 2: field 'text' is missing"),
        ('{"text": "x"}', "line 2: field 'emotion' is missing"),
        ('{"id": "a", "text": "x", "emotion": "sad"}', "line 2: id 'a' occurs twice"),
    ],
)
def test_bad_line_is_named(tmp_path, wrong, says):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "x", "emotion": "sad"}) + "\n" + wrong + "\n")
    with pytest.raises(UserError, match=f"mine.jsonl {says}"):
        read_stories(path)


def test_bad_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_stories(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no texts"):
        read_stories(tmp_path / "empty.jsonl")
