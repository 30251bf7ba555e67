"""Tiny models are the same every time, have the shape asked for, and know the words asked for."""

import pytest

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model


@pytest.mark.parametrize("family", FAMILIES.names())
def test_shape_and_words_are_those_asked_for(family, tmp_path):
    shape = TinyShape(n_layers=2, d_model=16, n_heads=2, n_ctx=64)
    model = load_model(str(write_tiny_model(family, tmp_path, shape, words=("cheat",))), checks=False)
    assert (model.n_layers, model.d_model, model.n_ctx) == (2, 16, 64)
    assert model.token_texts([model.single_token("cheat")]) == [" cheat"]


def test_the_seed_decides_the_weights(tmp_path):
    files = [
        (write_tiny_model("llama", tmp_path / name, seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert files[0] == files[1] != files[2]
