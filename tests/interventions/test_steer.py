"""Steering: which positions, how much, in padded and cached batches, at several sites; and what is
refused.
"""

import numpy as np
import pytest
import torch
from fixtures.make_directions import push_along
from interventions.bridges import native_bridge
from planted.paper_model import random_batch, random_model

from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure, UserError
from emocircuits.interventions.generate import sample
from emocircuits.interventions.positions import fade, ramp
from emocircuits.interventions.steer import steer
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited

SITE = residual_site(1)


@pytest.fixture(scope="module")
def model():
    return random_model(dtype=torch.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))), checks=False)


def added(model, tokens, context, site=SITE, **inputs):
    """What a context adds to the stream at a site."""
    seen = []
    for outer in (edited(model, {}, what="nothing"), context):
        with (
            outer,
            edited(
                model, {site: lambda x: seen.append(x.detach().clone()) or x}, what="read", must_change=False
            ),
        ):
            model(tokens, **inputs)
    return seen[1] - seen[0]


def test_schedules_scale_the_push_by_position(model):
    tokens, direction = random_batch(2).clean, torch.randn(12)
    full = added(model, tokens, steer(model, push_along(SITE, direction, 0.3, 5.0)))[0, 0]
    half = added(model, tokens, steer(model, push_along(SITE, direction, 0.3, 5.0), schedule=ramp(0, 4)))
    for position, share in enumerate((0, 0.25, 0.5, 0.75, 1, 1, 1)):
        torch.testing.assert_close(half[:, position], (share * full).expand(2, 12), atol=1e-5, rtol=1e-5)
    faded = added(
        model,
        tokens,
        steer(model, push_along(SITE, direction, 0.3, 5.0), slice(1, None), schedule=fade(2, start=1)),
    )
    assert (faded[:, 0] == 0).all()
    torch.testing.assert_close(faded[0, 3], full / 2, atol=1e-5, rtol=1e-5)
    odd = added(
        model,
        tokens,
        steer(model, push_along(SITE, direction, 0.3, 5.0), schedule=lambda positions: positions % 2),
    )
    assert (odd[:, ::2] == 0).all() and (odd[:, 1::2] != 0).any()


def test_several_sites_and_a_push_per_row(model):
    tokens, vectors = random_batch(3).clean, torch.randn(3, 12)
    sites = [residual_site(0), residual_site(2)]
    rows = added(model, tokens, steer(model, Push("x", SITE, vectors)))
    torch.testing.assert_close(rows, vectors[:, None].expand(3, 7, 12), atol=1e-5, rtol=1e-5)
    both = [Push("x", site, torch.ones(12)) for site in sites]
    with steer(model, both):
        together = model(tokens)
    with steer(model, both[0]), steer(model, both[1]):
        torch.testing.assert_close(model(tokens), together)
    with steer(model, []), steer(model, Push("x", SITE, torch.zeros(12))):
        assert torch.equal(model(tokens), model(tokens))


def test_padding_is_untouched_and_does_not_shift_positions(tiny):
    """Three prompts of different length, padded on the left, act like each alone; the pads' stream stays as
    it is.
    """
    lengths, width = (4, 9, 6), 9
    source = np.random.default_rng(0)
    prompts = [torch.from_numpy(source.integers(3, tiny.d_vocab, length)) for length in lengths]
    tokens, mask = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :], mask[row, width - len(prompt) :] = prompt, 1
    vector, site = torch.randn(tiny.d_model), tiny.sites[0]
    for positions in (None, slice(2, 4), [1, 3], slice(3, None)):

        def context(mask=None, positions=positions):
            return steer(
                tiny.bridge,
                push_along(site, vector, 0.5, 3.0),
                positions,
                schedule=ramp(0, 5),
                attention_mask=mask,
            )

        with torch.no_grad():
            padded = added(tiny.bridge, tokens, context(mask), site, attention_mask=mask)
            assert (padded[mask == 0] == 0).all()
            with context(mask):
                together = tiny.bridge(tokens, attention_mask=mask)[:, -1]
            for row, prompt in enumerate(prompts):
                alone = added(tiny.bridge, prompt[None], context(), site)[0]
                torch.testing.assert_close(padded[row, width - len(prompt) :], alone, atol=1e-6, rtol=0)
                with context():
                    torch.testing.assert_close(
                        together[row], tiny.bridge(prompt[None])[0, -1], atol=2e-4, rtol=1e-3
                    )


@pytest.mark.parametrize("positions", [None, "generated", slice(3, 7), [2, 5]])
def test_a_padded_cached_generation_steers_each_prompt_like_one_alone(tiny, positions):
    source = np.random.default_rng(1)
    prompts = [torch.from_numpy(source.integers(3, tiny.d_vocab, length))[None] for length in (5, 3)]
    tokens, mask = torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, 5 - prompt.shape[1] :], mask[row, 5 - prompt.shape[1] :] = prompt[0], 1
    vector, site = torch.linspace(-1, 1, tiny.d_model), tiny.sites[1]
    found = []
    for cache in (True, False):
        with steer(tiny.bridge, push_along(site, vector, 1.5, 8.0), positions, attention_mask=mask):
            found.append(sample(tiny.bridge, tokens, 4, temperature=0, cache=cache, attention_mask=mask))
    assert torch.equal(*found)
    for row, prompt in enumerate(prompts):
        with steer(tiny.bridge, push_along(site, vector, 1.5, 8.0), positions):
            assert torch.equal(sample(tiny.bridge, prompt, 4, temperature=0)[0], found[0][row])


def test_generated_leaves_the_prompt_alone(tiny):
    tokens = torch.arange(5, 11)[None]
    vector, seen = torch.ones(tiny.d_model), []
    with (
        steer(tiny.bridge, push_along(tiny.sites[0], vector, 1.0, 50.0), "generated"),
        edited(
            tiny.bridge,
            {tiny.sites[0]: lambda x: seen.append(x.detach().clone()) or x},
            what="read",
            must_change=False,
        ),
    ):
        sample(tiny.bridge, tokens, 3, temperature=0)
    plain = []
    with edited(
        tiny.bridge,
        {tiny.sites[0]: lambda x: plain.append(x.detach().clone()) or x},
        what="read",
        must_change=False,
    ):
        sample(tiny.bridge, tokens, 3, temperature=0)
    assert torch.equal(seen[0], plain[0]) and seen[0].shape[1] == 6
    assert (seen[1].mean() - plain[1].mean()).abs() > 1
    with (
        pytest.raises(Failure, match="changed nothing"),
        steer(tiny.bridge, push_along(tiny.sites[0], vector, 1.0, 50.0), "generated"),
    ):
        tiny.bridge(tokens)


OUTSIDE = [
    (slice(9, None), "position 9 lies outside the prompt of 7 tokens"),
    ([2, 7], "position 7"),
    (slice(4, 4), "span"),
    ([-1], "from the front"),
    ([], "at least one"),
    ("last", "'generated'"),
    (slice(-3, None), "from the front"),
]


@pytest.mark.parametrize("positions,text", OUTSIDE)
def test_positions_outside_the_prompt_are_refused(model, positions, text):
    with (
        pytest.raises(UserError, match=text),
        steer(model, push_along(SITE, torch.ones(12), 0.1, 3.0), positions),
    ):
        model(random_batch(1).clean)


def test_what_cannot_be_pushed_is_refused(model):
    tokens = random_batch(2).clean
    for vectors, text in (
        (torch.ones(3, 12), "3 steering vectors"),
        (torch.ones(5), "d_model 12"),
        (torch.full((12,), float("inf")), "infinity"),
        (torch.ones(1, 1, 12), "shape"),
    ):
        with pytest.raises(UserError, match=text), steer(model, Push("x", SITE, vectors)):
            model(tokens)
    with (
        pytest.raises(UserError, match="mask over 3"),
        steer(model, Push("x", SITE, torch.ones(12)), attention_mask=torch.ones(3, 7, dtype=int)),
    ):
        model(tokens)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.fixture(params=["bridge", "hooked_transformer"])
def either(request):
    return request.getfixturevalue("bridge" if request.param == "bridge" else "model")


def test_steering_adds_a_share_of_the_norm_along_the_unit_direction(either):
    model = either
    tokens, direction = random_batch(3).clean, torch.randn(12)
    seen = {}

    def read(name):
        return edited(
            model, {SITE: lambda x: seen.setdefault(name, x.detach())}, what="read", must_change=False
        )

    with read("plain"):
        model(tokens)
    with steer(model, push_along(SITE, 5 * direction, -0.25, 8.0), positions=slice(3, None)), read("steered"):
        model(tokens)
    added = seen["steered"] - seen["plain"]
    assert torch.allclose(added[:, :3], torch.zeros(3, 3, 12))
    assert torch.allclose(
        added[:, 3:], (-0.25 * 8.0 * direction / direction.norm()).expand(3, 4, 12), atol=1e-5
    )
    with steer(model, push_along(SITE, direction, 0.0, 8.0)):
        assert torch.equal(model(tokens), model(tokens))


def test_steering_refuses_a_direction_without_length(bridge):
    with (
        pytest.raises(UserError, match="not zero"),
        steer(bridge, push_along(SITE, torch.zeros(12), 0.1, 3.0)),
    ):
        pass
    with (
        pytest.raises(UserError, match="d_model 12"),
        steer(bridge, push_along(SITE, torch.ones(5), 0.1, 3.0)),
    ):
        bridge(random_batch(1).clean)
