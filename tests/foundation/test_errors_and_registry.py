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


def test_registry_refuses_a_second_member_of_one_name():
    registry = Registry[int]("number")
    registry.register("one", 1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("one", 2)
    with pytest.raises(UserError, match="unknown number 'onne'; did you mean 'one'"):
        registry.get("onne")
    assert list(registry) == [("one", 1)]


def test_sites_have_a_name_a_layer_and_a_short_form():
    assert layer_of(residual_site(7)) == 7
    assert short_site("blocks.2.hook_mlp_out") == "mlp_out.2"
    with pytest.raises(UserError, match="not a site"):
        layer_of("blocks.x")
