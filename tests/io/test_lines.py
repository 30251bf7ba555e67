"""A line feed ends a line, and nothing else."""

import json

import pytest

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.story_files import read_stories, stories_jsonl
from emocircuits.behaviours.material import PromptPair
from emocircuits.behaviours.prompt_pairs import read_pairs, write_pairs
from emocircuits.io.lines import lines_of

SEPARATORS = ["\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"]


@pytest.mark.parametrize("separator", SEPARATORS)
def test_what_was_written_comes_back(tmp_path, separator):
    path = tmp_path / "x.jsonl"
    pairs = (
        PromptPair(id="a", clean=f"sam was{separator}broke", corrupt=f"sam was{separator}paid", split="find"),
    )
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs
    stories = [LabelledText(id="s", text=f"she wept{separator}and ran", emotion="sad", topic="t")]
    path.write_text(stories_jsonl(stories), encoding="utf-8")
    assert read_stories(path) == stories
    path.write_text(json.dumps(vars(stories[0]), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_stories(path) == stories


def test_lines():
    assert lines_of("a\nb\u2028c\r\n\nd") == ["a", "b\u2028c", "", "d"]
    assert lines_of("a\n") == lines_of("a") == ["a"] and lines_of("") == [""]
