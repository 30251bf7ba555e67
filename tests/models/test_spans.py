"""Tokens of stretches of characters."""

import pytest
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.models.spans import encode_with_offsets, tokens_of


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("tiny"))
    return model, tiny_directions(model)


def test_spans_are_the_tokens_of_their_characters(read):
    model, _ = read
    text = "The doctor read the letter again and felt calm."
    ((ids, offsets),) = encode_with_offsets(model, [text])
    assert ids == model.encode(text) and len(offsets) == len(ids)
    start = text.index("letter")
    inside = tokens_of(offsets, start, start + len("letter"))
    assert "".join(model.token_texts(ids[inside])).strip() == "letter"
    with pytest.raises(UserError, match="no token holds"):
        tokens_of(offsets, 500, 510)
