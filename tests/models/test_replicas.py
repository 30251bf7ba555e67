"""Replicas share weights and nothing else: the same numbers, side by side, with hooks of their own."""

import pytest
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.models import FAMILIES, load_model
from emocircuits.models.replicas import replicas
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.resume import resume, stream_at
from emocircuits.threads import side_by_side

SITE = "blocks.0.hook_resid_post"


@pytest.mark.parametrize("family", FAMILIES.names())
def test_passes_side_by_side_give_the_bits_of_one_after_the_other(family, tmp_path):
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False).bridge
    before, batches = torch.get_num_threads(), [torch.randint(3, 200, (3, 4 + n)) for n in range(12)]
    torch.set_num_threads(1)
    try:
        expected = [resume(model, x, SITE, 2 * stream_at(model, x, SITE)) for x in batches]
        found = side_by_side(
            lambda one, x: resume(one, x, SITE, 2 * stream_at(one, x, SITE)), batches, replicas(model, 3)
        )
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    finally:
        torch.set_num_threads(before)


def test_weights_are_shared_and_hooks_are_not():
    model = HookedTransformer(
        HookedTransformerConfig(n_layers=2, d_model=8, n_ctx=8, d_head=4, d_vocab=9, act_fn="relu", seed=0)
    )
    model.add_hook("hook_embed", lambda value, hook: value * 2)
    first, second = replicas(model, 2)
    for one in (first, second):
        assert one is not model
        assert all(a is b for a, b in zip(one.parameters(), model.parameters(), strict=True))
    seen, tokens = [], torch.arange(5)[None]
    with second.hooks(fwd_hooks=[(SITE, lambda value, hook: seen.append(value))]):
        one = first(tokens)
        assert not seen
        assert torch.equal(second(tokens), one) and len(seen) == 1  # the hook from before is on both
    model.reset_hooks()
    assert torch.equal(first(tokens), one) and not torch.equal(model(tokens), one)


def test_as_many_as_torch_has_threads():
    model, before = torch.nn.Linear(2, 2), torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert len(replicas(model)) == count and (count > 1) == (model not in replicas(model))
        assert len(replicas(torch.nn.Linear(2, 2, device="meta"))) == 1
    finally:
        torch.set_num_threads(before)


def test_what_a_pass_with_gradients_left_in_a_module_is_no_part_of_the_model():
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=1, d_model=8, n_ctx=8, d_head=4, n_heads=2, d_vocab=9, act_fn="relu", device="cpu"
        )
    )
    inside = torch.ones(2, requires_grad=True) * 2  # as TransformerLens keeps the input of a norm
    vars(model.blocks[0])["_captured"] = inside
    for twin in replicas(model, 2):
        assert vars(twin.blocks[0])["_captured"] is inside
