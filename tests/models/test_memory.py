"""Estimates of memory against what is really allocated, and what a budget allows."""

import pytest
import torch
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.models.memory import GIB, Shape, chunk_for, pairs_at_once, shape_of
from emocircuits.models.tiny import TinyShape


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("long"), shape=TinyShape(n_ctx=4096, n_layers=2))
    return model, tiny_directions(model)


def test_the_budget_decides_the_chunk_and_says_what_to_lower(world):
    model, _ = world
    fixed = shape_of(model).fixed_gb
    assert chunk_for(model, 4096, fixed + 2) == 2048
    assert chunk_for(model, 4096, fixed + 0.02) < 512
    with pytest.raises(UserError, match="a memory budget of 0.5 GiB; expected more than"):
        chunk_for(model, 4096, 0.5)
    with pytest.raises(UserError, match="a prompt of 4096 tokens takes .*bfloat16, or fewer sites"):
        pairs_at_once(shape_of(model), 4096, fixed + 0.05, d_sae=256, sites=2)
    assert pairs_at_once(shape_of(model), 256, fixed + 1, d_sae=256, sites=2) > pairs_at_once(
        shape_of(model), 512, fixed + 1, d_sae=256, sites=2
    )


def test_chunked_memory_grows_in_proportion_to_the_prompt():
    shape = Shape(10_000_000, 6, 256, 8, 1024, 32_000)
    sizes = [shape.forward_bytes(tokens, 256) for tokens in (256, 1024, 4096)]
    assert sizes[1] / sizes[0] <= 4 and sizes[2] / sizes[0] <= 16
    assert shape.forward_bytes(4096) > 4 * shape.forward_bytes(4096, 256)


def test_the_estimate_covers_what_is_really_allocated(world):
    """Bytes of all tensors that a backward pass keeps, counted by autograd's own hooks, against the estimate
    for them.
    """
    model, _ = world
    shape, tokens, kept = shape_of(model), 256, {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    entry = [("blocks.0.hook_resid_pre", lambda value, hook: value.detach().requires_grad_(True))]
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        model.bridge.hooks(fwd_hooks=entry),
    ):
        model.bridge(torch.randint(3, model.d_vocab, (1, tokens)), use_cache=False)[:, -1].logsumexp(
            -1
        ).sum().backward()
    weights = {
        parameter.untyped_storage().data_ptr() for parameter in model.bridge.original_model.parameters()
    }
    held = sum(size for place, size in kept.items() if place not in weights)
    estimate = shape.attribution_bytes(tokens, 0, 0)
    assert 0.3 * estimate < held < estimate, (held / GIB, estimate / GIB)
