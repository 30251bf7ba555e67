"""Sampling with and without a cache."""

import pytest
import torch
from fixtures.make_directions import push_along
from interventions.bridges import native_bridge
from planted.paper_model import random_batch
from transformers import DynamicCache

from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.interventions.edits import add
from emocircuits.interventions.generate import sample
from emocircuits.interventions.intervene import intervene
from emocircuits.interventions.positions import check_positions
from emocircuits.interventions.steer import steer
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import residual_site

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.mark.parametrize("positions", ["all", slice(5, None), [6, 8, 9]])
def test_steered_sampling_is_the_same_with_and_without_a_cache(bridge, positions):
    tokens = random_batch(3).clean
    runs = []
    for cache in (True, False):
        with steer(bridge, push_along(SITE, torch.linspace(-1, 1, 12), 1.0, 6.0), positions):
            runs.append(sample(bridge, tokens, 5, seed=3, cache=cache))
    assert runs[0].shape == (3, 5)
    assert torch.equal(*runs)
    assert torch.equal(sample(bridge, tokens, 5, seed=3), sample(bridge, tokens, 5, seed=3))


PROMPTS = ("She ran home in the rain, desperate to hide", "He felt", "The doctor read it again", "T")


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("what", ["steer", "intervene"])
def test_every_prompt_that_is_written_on_has_its_own_positions(tmp_path, what, cache):
    """One context around all prompts, long and short ones in any order, gives what one each gives; and what a
    hook by hand gives that pushes the tokens written.
    """
    model = load_model(str(write_tiny_model("qwen2", tmp_path)))  # no BOS: a prompt may be one token
    torch.manual_seed(0)
    vector, site = 5 * torch.randn(model.d_model), "blocks.1.hook_resid_post"
    prompts = [torch.tensor([model.encode(text)]) for text in PROMPTS]
    assert prompts[-1].shape == (1, 1)

    def pushed():
        if what == "steer":
            return steer(model.bridge, Push("v", site, vector), "generated")
        return intervene(model.bridge, [add("m1", vector, "generated")])

    def write(prompt):
        return sample(model.bridge, prompt, 8, temperature=0, cache=cache)[0].tolist()

    alone = []
    for prompt in prompts:
        with pushed():
            alone.append(write(prompt))
    for order in (range(4), range(3, -1, -1)):
        with pushed():
            assert {number: write(prompts[number]) for number in order} == dict(enumerate(alone))
    assert alone != [write(prompt) for prompt in prompts]
    if what == "intervene":
        return
    for prompt, expected in zip(prompts, alone, strict=True):
        whole = prompt

        def by_hand(value, hook, prompt=prompt):
            value[:, prompt.shape[1] :] += vector
            return value

        for _ in range(8):
            with torch.no_grad(), model.bridge.hooks(fwd_hooks=[(site, by_hand)]):
                whole = torch.cat([whole, model.bridge(whole)[:, -1:].argmax(-1)], dim=1)
        assert whole[0, prompt.shape[1] :].tolist() == expected


def test_a_cache_that_several_tokens_are_added_to_counts_on(tmp_path):
    model = load_model(str(write_tiny_model("llama", tmp_path)))
    tokens, site = torch.arange(5, 17)[None], "blocks.1.hook_resid_post"
    push, cache = Push("v", site, torch.full((model.d_model,), 3.0)), DynamicCache()
    with torch.no_grad(), steer(model.bridge, push, [5, 9]):
        whole = model.bridge(tokens)
        parts = [
            model.bridge(part, past_key_values=cache, use_cache=True)
            for part in tokens.split([4, 3, 1, 4], dim=1)
        ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [[[2], [5]], torch.tensor([[0, 1, 0], [1, 0, 0]]), ["two"], [None]])
def test_positions_are_the_same_for_every_prompt(wrong):
    with pytest.raises(UserError, match="whole numbers, the same for every prompt"):
        check_positions(wrong)
