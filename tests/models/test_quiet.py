"""Loading is silent."""

import pytest

from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_tiny_model("llama", tmp_path_factory.mktemp("good"))


def test_loading_is_silent(good, capfd):
    load_model(str(good))
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""
