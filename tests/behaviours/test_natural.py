"""Scenarios in plain English: minimal pairs of equal length for every tokenizer, words that are tokens."""

import itertools

import pytest
from behaviours.natural_models import VOCABULARIES, natural_model

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.behaviours.natural import NATURAL, aligned, natural_pairs, read_scenario, unaligned
from emocircuits.errors import UserError


@pytest.fixture(scope="module", params=VOCABULARIES)
def model(request, tmp_path_factory):
    family, vocabulary = request.param
    return natural_model(family, vocabulary, tmp_path_factory.mktemp(family))


@pytest.mark.parametrize(("name", "most"), [("blackmail", 64), ("reward_hacking", 64), ("sycophancy", 64)])
def test_all_three_sides_have_one_length_and_differ_in_circumstances_alone(model, name, most):
    bound = bind(BEHAVIOURS.get(name), model, ["natural"])
    pairs = bound.find + bound.score
    assert len(pairs) >= most and bound.material.targets and bound.material.honest
    for pair in pairs:
        lengths = {len(model.encode(text)) for text in (pair.clean, pair.corrupt, pair.details["neutral"])}
        assert len(lengths) == 1, pair.id
        prefix = len(
            list(
                itertools.takewhile(lambda two: two[0] == two[1], zip(pair.clean, pair.corrupt, strict=False))
            )
        )
        frame = {one[0]: one[2] for one in read_scenario(NATURAL / f"{name}.toml").frames}[
            pair.details["frame"]
        ]
        assert prefix >= frame.index("{circumstances}") and pair.clean.endswith(
            read_scenario(NATURAL / f"{name}.toml").prefix
        )


def test_transcripts_have_none_to_four_failures_with_passed_controls(model):
    bound = bind(BEHAVIOURS.get("reward_hacking"), model, ["natural"])
    pairs = bound.find + bound.score
    assert {pair.details["failures"] for pair in pairs} == {0, 1, 2, 3, 4} and len(
        {pair.details["frame"] for pair in pairs}
    ) == 14
    for pair in pairs:
        assert pair.clean.count("fail") >= pair.details["failures"] and "fail" not in pair.corrupt
        assert pair.corrupt.count("pass") >= pair.details["failures"]


def test_long_prompts_are_long_and_still_aligned(model):
    bound = bind(BEHAVIOURS.get("blackmail"), model, ["natural_long"])
    lengths = [len(model.encode(pair.clean)) for pair in bound.score]
    assert (
        min(lengths) > 1500
        and max(lengths) < 4000
        and len({len(model.encode(pair.corrupt)) - n for pair, n in zip(bound.score, lengths, strict=True)})
        == 1
    )


def test_unaligned_variants_keep_the_first_wording(model):
    pairs = natural_pairs(read_scenario(NATURAL / "blackmail.toml"), model, align=False)
    assert (
        len(pairs) == 68
        and "The clock says four forty" in pairs[0].clean
        and "The clock says nine ten" in pairs[0].corrupt
    )


def test_a_tokenizer_without_the_words_is_told_which():
    class NoWords:
        def encode(self, text):
            return text.split()

        def single_token(self, word):
            raise UserError("several tokens")

    with pytest.raises(UserError, match="none of the target words blackmail, threaten.*is one token"):
        bind(BEHAVIOURS.get("blackmail"), NoWords(), ["natural"])


def test_wordings_of_equal_length_are_found_wherever_there_are_any():
    def encode(text):
        return text.split()

    sides = {"a": [["one two three", "one"], ["x y"]], "b": [["one two three four"], ["x", "x y z", "x y"]]}
    found = aligned(encode, lambda text: f"so {text} .", sides)
    assert len({len(encode(text)) for text in found.values()}) == 1 and found["a"].startswith(
        "so one two three"
    )
    sides["b"] = [["one two three four five six"], ["x"]]
    with pytest.raises(UserError, match="a 3 to 5 tokens; b 7 to 7 tokens"):
        aligned(encode, str, sides)
    assert len(set(map(len, map(encode, aligned(encode, str, sides, ["f", "f g", "f g h"]).values())))) == 1
    assert unaligned(str, sides) == {"a": "one two three x y", "b": "one two three four five six x"}
