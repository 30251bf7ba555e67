"""The generator: deterministic, disjoint splits, unnamed stories stay unnamed, probabilities match
frequencies.
"""

import numpy as np
import pytest

from emocircuits.errors import UserError
from emocircuits.organism import corpus, world
from emocircuits.organism.documents import split_of_levels


@pytest.mark.parametrize("kind", corpus.kinds())
def test_same_index_same_document(kind):
    first, second = (corpus.make_document(kind, 5, seed=3) for _ in range(2))
    assert first == second
    assert first != corpus.make_document(kind, 6, seed=3)
    assert first.text != corpus.make_document(kind, 5, seed=4).text


@pytest.mark.parametrize("kind", corpus.kinds())
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_kind_is_readable(kind, split):
    for document in corpus.generate(kind, 20, 1, split):
        assert document.split == split
        assert "{" not in document.text and "  " not in document.text
        for decision in document.decisions:
            assert document.text.startswith(f"{decision.prefix} {decision.action}")
            assert decision.action in decision.options
            assert 0 < decision.p_true <= 1 and 0 < decision.p_bayes <= 1
        for feeling in document.feelings:
            assert document.text.startswith(f"{feeling.prefix} {feeling.action}")
            assert (
                0 < feeling.target()[feeling.action] <= 1 and abs(sum(feeling.target().values()) - 1) < 1e-9
            )


@pytest.mark.parametrize("kind", ["inbox", "coding", "sycophancy"])
def test_level_vectors_are_in_one_split_only(kind):
    for split in ("train", "held_out"):
        assert all(split_of_levels(d.levels) == split for d in corpus.generate(kind, 100, 0, split))


def test_story_combinations_are_in_one_split_only():
    seen = {
        split: {(d.emotion, d.topic) for d in corpus.generate("story", 400, 0, split)}
        for split in ("train", "held_out")
    }
    assert not seen["train"] & seen["held_out"]


def test_unnamed_stories_do_not_name_the_emotion():
    for document in corpus.generate("story", 300, 2, named=False):
        assert not document.named
        assert document.emotion is None or not world.gives_away(document.emotion, document.text)


def test_stories_can_be_asked_for():
    document = corpus.make_document("story", 0, emotion="desperate", topic="cooking", named=True)
    assert document.emotion == "desperate" and document.topic == "cooking" and "desperate" in document.text


def test_drawn_actions_follow_the_true_probability():
    decisions = [d for document in corpus.generate("inbox", 1500, 8) for d in document.decisions]
    hits = np.mean([d.action == d.options[0] for d in decisions])
    chance = np.mean([d.p_true for d in decisions])
    assert abs(hits - chance) < 4 * np.sqrt(chance * (1 - chance) / len(decisions))
    assert abs(np.mean([d.p_bayes for d in decisions]) - chance) < 0.03


def test_unknown_kind_and_split():
    with pytest.raises(UserError, match="did you mean 'inbox'"):
        corpus.make_document("inbux", 0)
    with pytest.raises(UserError, match="held_out"):
        corpus.make_document("inbox", 0, split="test")
