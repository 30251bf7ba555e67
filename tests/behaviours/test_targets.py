"""Action words become token ids in their order, or are refused."""

import pytest
from behaviours.words import Words

from emocircuits.behaviours.targets import resolve, resolve_both
from emocircuits.errors import UserError


def test_resolve_keeps_order():
    assert resolve(Words("tell", "hide", "ask"), ("hide", "tell")) == (1, 0)
    assert resolve_both(Words("tell", "hide", "ask"), ("hide",), ("ask", "tell")) == ((1,), (2, 0))


def test_resolve_refuses():
    words = Words("tell", "hide")
    with pytest.raises(UserError, match="'cheat' is not one token: 'ch' | 'eat'"):
        resolve(words, ("cheat",))
    with pytest.raises(UserError, match="'hide' and 'hide' are the same token"):
        resolve_both(words, ("hide",), ("tell", "hide"))
    with pytest.raises(UserError, match="no action words"):
        resolve(words, ())
    with pytest.raises(UserError, match="honest words are empty"):
        resolve_both(words, ("hide",), ())
