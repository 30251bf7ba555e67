"""Every activity is offered equally often, and prompts know where their options stand."""

import numpy as np
import pytest
from experiments.preference_world import asked_model

from emocircuits.errors import UserError
from emocircuits.experiments.preference_material import (
    option_prompts,
    ordered_pairs,
    read_material,
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return asked_model(tmp_path_factory.mktemp("tiny"))


def test_every_activity_is_offered_equally_often():
    assert (
        len(ordered_pairs(64)) == 4032 and len({tuple(pair) for pair in ordered_pairs(64).tolist()}) == 4032
    )
    for most in (64, 128, 640):
        pairs = ordered_pairs(64, most, seed=1)
        assert (
            len(pairs) == most
            and len({tuple(pair) for pair in pairs.tolist()}) == most
            and (pairs[:, 0] != pairs[:, 1]).all()
        )
        counts = [np.bincount(pairs[:, side], minlength=64) for side in (0, 1)]
        assert {*counts[0], *counts[1]} == {most // 64}
    np.testing.assert_array_equal(ordered_pairs(64, 128, seed=1), ordered_pairs(64, 128, seed=1))


def test_prompts_know_where_their_options_stand(asked):
    model, _, material, _ = asked
    prompts = option_prompts(model, material, ordered_pairs(6), seed=2)
    for prompt in prompts:
        for activity, span in zip((prompt.first, prompt.second), prompt.spans, strict=True):
            told = "".join(model.token_texts(prompt.tokens[span]))
            assert (
                material.activities[activity].text in told
                and len(told) <= len(material.activities[activity].text) + 2
            )
        text = "".join(model.token_texts(prompt.tokens))
        assert text.index(material.activities[prompt.first].text) < text.index(
            material.activities[prompt.second].text
        )


@pytest.mark.parametrize(
    "text, word",
    [
        ("question = ['{A} or {B}']\n[[activity]]\nid='a'\ntext='x'", "has 1 activities"),
        (
            "question = ['{A} or']\n" + "".join(f"[[activity]]\nid='{n}'\ntext='x'\n" for n in range(4)),
            "{A} and {B} once each",
        ),
        (
            "labels = ['A']\nquestion = ['{A} or {B}']\n"
            + "".join(f"[[activity]]\nid='{n}'\ntext='x'\n" for n in range(4)),
            "1 labels",
        ),
        ("question = 3", "is not right"),
        ("= =", "is not right"),
    ],
)
def test_bad_material(tmp_path, text, word):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=word):
        read_material(path)


def test_the_organisms_material():
    material = read_material()
    assert (
        len(material.activities) == 64
        and len({one.category for one in material.activities}) == 8
        and material.labels == ("A", "B")
    )
