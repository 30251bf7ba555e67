"""Blocks that are computed again give the same effects and are undone."""

import numpy as np
import pytest
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of

from emocircuits import attribute
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
    plain = attribute(task_of(model, batch, difference, saes), edges=False)
    monkeypatch.setattr(recompute, "KEPT_BYTES", 0)
    again = attribute(task_of(model, batch, difference, saes), edges=False)
    assert again.nodes == plain.nodes and again.passes == plain.passes + 1
    np.testing.assert_allclose(again.effects, plain.effects, atol=1e-10)
    with pytest.raises(UserError):
        attribute(task_of(model, batch, lambda logits: logits, saes), edges=False)
    assert not any("forward" in block.__dict__ for block in model.blocks)


def test_copies_of_prompts_share_a_pass_while_what_it_keeps_fits(monkeypatch):
    model, tokens = random_model(), random_batch(3).clean
    kept = recompute.pattern_bytes(model, tokens) + recompute.stream_bytes(model, tokens)
    assert recompute.copies_at_once(model, tokens, 10 * tokens.numel()) == 10
    monkeypatch.setattr(recompute, "KEPT_BYTES", 4 * kept)
    assert recompute.copies_at_once(model, tokens, 10 * tokens.numel()) == 4
    monkeypatch.setattr(recompute, "KEPT_BYTES", 0)
    assert recompute.copies_at_once(model, tokens, 1) == 1
