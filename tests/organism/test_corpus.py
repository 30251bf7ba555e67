"""The generator: deterministic, disjoint splits, unnamed stories stay unnamed, probabilities match
frequencies.
"""

import pytest

from emocircuits.errors import UserError
from emocircuits.organism import corpus


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


def test_unknown_kind_and_split():
    with pytest.raises(UserError, match="did you mean 'inbox'"):
        corpus.make_document("inbux", 0)
    with pytest.raises(UserError, match="held_out"):
        corpus.make_document("inbox", 0, split="test")
