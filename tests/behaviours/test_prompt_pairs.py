"""Prompt files are read as they were written, bad ones are named; tokens are grouped by length."""

import json

import pytest
import torch
from behaviours.words import Words

from emocircuits.behaviours import PromptPair
from emocircuits.behaviours.prompt_pairs import encode_pairs, read_pairs, write_pairs
from emocircuits.errors import UserError
from emocircuits.passes.prompt_pairs import PromptPairs


def line(**changes):
    return json.dumps({"id": "a", "clean": "he cried", "corrupt": "he sang", "split": "find"} | changes)


@pytest.fixture
def prompt_file(tmp_path):
    def make(*lines):
        path = tmp_path / "some.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


def test_write_read_is_identity(tmp_path):
    pairs = (
        PromptPair("a", "He’s “lost”", "He’s “safe”", "find", 0.25, 1.0, {"failures": 3}),
        PromptPair("b", "one two", "one three", "score"),
    )
    write_pairs(tmp_path / "p.jsonl", pairs)
    assert read_pairs(tmp_path / "p.jsonl") == pairs
    assert read_pairs(tmp_path / "p.jsonl", "score") == pairs[1:]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 holds list"),
        (line(id="b", colour="red"), "line 2: unknown field 'colour'"),
        (json.dumps({"id": "b", "clean": "x", "split": "find"}), "line 2: no field 'corrupt'"),
        (line(id="b", clean=""), "line 2: field 'clean'"),
        (line(id="b", clean="he cried "), "line 2: field 'clean' ends in white space"),
        (line(id="b", corrupt="he cried"), "line 2: clean and corrupt are the same"),
        (line(id="b", split="test"), "line 2: field 'split' is 'test'; expected find or score"),
        (line(id="b", true_clean=1.5), "line 2: field 'true_clean' is 1.5"),
        (line(id="b", details=[]), "line 2: field 'details'"),
        (line(), "line 2: id 'a' occurs twice"),
    ],
)
def test_bad_line_is_named(prompt_file, wrong, says):
    with pytest.raises(UserError, match=f"some.jsonl {says}"):
        read_pairs(prompt_file(line(), wrong))


def test_bad_file_is_named(tmp_path, prompt_file):
    with pytest.raises(UserError, match="does not exist"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no pairs"):
        read_pairs(prompt_file(""))
    with pytest.raises(UserError, match="split 'test'"):
        read_pairs(prompt_file(line()), "test")


def test_unequal_lengths_name_the_pair_and_both_lengths():
    with pytest.raises(UserError, match="pair 'vase' has 4 clean and 3 corrupt tokens"):
        encode_pairs(Words(), [PromptPair("vase", "he cried out", "he sang", "find")])


def test_groups_hold_every_pair_once_without_padding():
    pairs = [
        PromptPair(
            str(n),
            " ".join(["w"] * (2 + n % 3) + [f"c{n}"]),
            " ".join(["w"] * (2 + n % 3) + [f"d{n}"]),
            "find",
        )
        for n in range(11)
    ]
    model = Words()
    prompts = PromptPairs.of_tokens(encode_pairs(model, pairs))
    assert sorted(prompts.index) == list(range(11)) and len(prompts) == 11
    for most in (1, 8, 1000):
        made = list(prompts.by_length(most))
        assert sorted(torch.cat([batch.index for batch in made]).tolist()) == list(range(11))
        for batch in made:
            assert batch.clean.numel() <= most or len(batch) == 1
            for row, number in enumerate(batch.index.tolist()):
                assert batch.clean[row].tolist() == model.encode(pairs[number].clean)
                assert batch.corrupt[row].tolist() == model.encode(pairs[number].corrupt)
