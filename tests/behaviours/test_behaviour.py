"""Cards are frozen, and unknown names list the known."""

import pytest

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.errors import UserError


def test_unknown_names_list_the_known():
    with pytest.raises(UserError, match="did you mean 'blackmail'.*reward_hacking"):
        BEHAVIOURS.get("blackmale")
    with pytest.raises(UserError, match="material of behaviour 'deception'.*tinystories"):
        BEHAVIOURS.get("deception").material("tinystory")


def test_card_is_frozen():
    with pytest.raises(AttributeError):
        BEHAVIOURS.get("blackmail").title = "other"
