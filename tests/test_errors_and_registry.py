from dataclasses import dataclass

import pytest

from emocircuits.errors import Failure, UserError, unknown
from emocircuits.names import layer_of, residual_site, short_site
from emocircuits.registry import Registry


def test_an_error_is_one_line_with_what_expected_and_cure():
    error = UserError("width\nis 3", expected="4", cure="say --width 4")
    assert str(error) == "width is 3; expected 4; say --width 4"
    assert (error.exit_code, Failure("x").exit_code) == (2, 1)


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known():
    text = str(unknown("emotion", "desprate", ["calm", "desperate"]))
    assert "did you mean 'desperate'?" in text and "calm, desperate" in text


@dataclass(frozen=True)
class Number:
    name: str
    summary: str


def test_registry_refuses_a_second_member_of_one_name():
    registry = Registry[Number]("number")
    one = registry.add(Number("one", "the first"))
    with pytest.raises(ValueError, match="added twice"):
        registry.add(Number("one", "another first"))
    with pytest.raises(UserError, match="unknown number 'onne'; did you mean 'one'"):
        registry.get("onne")
    assert list(registry) == [one] and registry.names() == ("one",)


@pytest.mark.parametrize("summary", ["", "two\nlines"])
def test_a_card_has_a_summary_of_one_line(summary):
    with pytest.raises(ValueError, match="a summary of one line"):
        Registry[Number]("number").add(Number("one", summary))


def test_cards_of_a_block_are_forgotten_when_it_ends_even_by_an_error():
    registry = Registry[Number]("number")
    one, other = registry.add(Number("one", "the first")), Number("one", "another first")
    with pytest.raises(RuntimeError), registry.temporarily(other):
        registry.add(Number("two", "the second"))
        assert registry.get("one") is other and len(registry) == 2
        raise RuntimeError
    assert list(registry) == [one]


def test_sites_have_a_name_a_layer_and_a_short_form():
    assert layer_of(residual_site(7)) == 7
    assert short_site("blocks.2.hook_mlp_out") == "mlp_out.2"
    with pytest.raises(UserError, match="not a site"):
        layer_of("blocks.x")
