"""Blocks that are computed again give the same effects and are undone."""

import numpy as np
import pytest
from planted.paper_model import difference, random_batch, random_model, random_saes

from emocircuits.attribution import attribution_patching
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes import recompute


@pytest.mark.parametrize("family", [None, "gpt2", "llama"])
def test_recomputed_blocks_give_the_same_effects_and_are_undone(family, tmp_path, monkeypatch):
    model = (
        random_model()
        if family is None
        else load_model(str(write_tiny_model(family, tmp_path)), dtype="float64", checks=False).bridge
    )
    saes, batch = random_saes("topk", 2, model.cfg.d_model), random_batch(3)
    plain = attribution_patching(model, saes, [batch], difference)
    monkeypatch.setattr(recompute, "KEPT_BYTES", 0)
    again = attribution_patching(model, saes, [batch], difference)
    assert again.nodes == plain.nodes and again.passes == plain.passes + 1
    np.testing.assert_allclose(again.effects, plain.effects, atol=1e-10)
    with pytest.raises(UserError):
        attribution_patching(model, saes, [batch], lambda logits: logits)
    assert not any("forward" in block.__dict__ for block in model.blocks)
