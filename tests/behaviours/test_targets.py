"""Action words become token ids in their order, or are refused."""

import pytest
from behaviours.words import Words

from emocircuits.behaviours.targets import both_token_ids, token_ids
from emocircuits.errors import UserError


def test_resolve_keeps_order():
    assert token_ids(Words("tell", "hide", "ask"), ("hide", "tell")) == (1, 0)
    assert both_token_ids(Words("tell", "hide", "ask"), ("hide",), ("ask", "tell")) == ((1,), (2, 0))


def test_resolve_refuses():
    words = Words("tell", "hide")
    with pytest.raises(UserError, match="'cheat' is not one token: 'ch' | 'eat'"):
        token_ids(words, ("cheat",))
    with pytest.raises(UserError, match="'hide' and 'hide' are the same token"):
        both_token_ids(words, ("hide",), ("tell", "hide"))
    with pytest.raises(UserError, match="no action words"):
        token_ids(words, ())
    with pytest.raises(UserError, match="honest words are empty"):
        both_token_ids(words, ("hide",), ())
