"""Steering: which positions, how much, in padded and cached batches, at several sites; and what is
refused.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.make_directions import directions_for, push_along
from hypothesis import given, settings
from hypothesis import strategies as st
from planted.paper_model import random_batch, random_model

import emocircuits
from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure, UserError
from emocircuits.interventions.dial import dial_pushes
from emocircuits.interventions.generate import sample
from emocircuits.interventions.liveness import check_live
from emocircuits.interventions.positions import Weights, fade, parse_positions, parse_schedule, ramp
from emocircuits.interventions.steer import steer, summed
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


@settings(max_examples=40)
@given(data=st.data())
def test_weights_pass_by_pass_equal_weights_at_once(data):
    """A cached run (a prompt, then single tokens) is steered like one pass over the whole, whatever the
    padding.
    """
    rows, prompt, new = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 6)),
        data.draw(st.integers(0, 4)),
    )
    pads = data.draw(st.lists(st.integers(0, prompt - 1), min_size=rows, max_size=rows))
    mask = torch.tensor([[int(column >= pad) for column in range(prompt)] for pad in pads])
    start = data.draw(st.integers(0, 5))
    positions = data.draw(
        st.sampled_from([None, slice(start, None), slice(start, start + 2), [start, start + 3]])
    )
    schedule = data.draw(st.sampled_from([None, ramp(1, 4), fade(3)]))
    at_once = Weights(positions, schedule, mask)
    whole = at_once.next(rows, prompt + new)
    steps = Weights(positions, schedule, mask)
    parts = [steps.next(rows, prompt)] + [steps.next(rows, 1) for _ in range(new)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    for row, pad in enumerate(pads):
        alone = Weights(positions, schedule).next(1, prompt + new - pad)
        np.testing.assert_array_equal(whole[row, pad:], alone[0])
        assert (whole[row, :pad] == 0).all()


def test_liveness_sees_dead_and_leaking_interventions(model):
    tokens = random_batch(2).clean
    change = check_live(
        model, tokens, lambda: steer(model, push_along(SITE, torch.randn(12), 0.5, 4.0)), "steer"
    )
    assert change > 0
    with pytest.raises(Failure, match="changed no logit"):
        check_live(model, tokens, lambda: edited(model, {}, what="nothing"), "nothing")
    with pytest.raises(Failure, match="is over and the logits differ"):
        check_live(model, tokens, lambda: _Leak(model), "leak")
    model.reset_hooks()


class _Leak:
    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.model.add_hook(SITE, lambda x, hook: x + 1)

    def __exit__(self, *error):
        return None


@pytest.mark.parametrize("strength", [5, -300, float("nan")])
def test_a_strength_that_is_a_length_is_refused_with_the_cure(model, strength):
    with pytest.raises(UserError) as caught, steer(model, push_along(SITE, torch.ones(12), strength, 60.0)):
        pass
    if strength == 5:
        assert "the strength is 0.0833" in str(caught.value) and "mean residual norm" in str(caught.value)


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


def test_positions_and_schedules_are_read_from_text():
    assert parse_positions("all") == "all" and parse_positions("generated") == "generated"
    assert parse_positions("3:9") == slice(3, 9) and parse_positions("12:") == slice(12, None)
    assert parse_positions("4,6") == [4, 6]
    assert (
        parse_schedule("ramp:0:10")(np.array([5.0])) == 0.5
        and parse_schedule("fade:4")(np.array([8.0])) == 0.25
    )
    for text in ("last", "1:2:3", "a,b"):
        with pytest.raises(UserError, match="span such as"):
            parse_positions(text)
    for text in ("ramp:3", "rise:0:4", "fade:x", "fade"):
        with pytest.raises(UserError, match="ramp:START:STOP"):
            parse_schedule(text)
    with pytest.raises(UserError, match="later end"):
        parse_schedule("ramp:5:5")
    with pytest.raises(UserError, match="above 0"):
        parse_schedule("fade:0")


def test_the_dial_adds_up_emotions_and_equals_steering(tiny, tmp_path):
    directions = directions_for(tiny)
    tokens, site = torch.arange(4, 10)[None], directions.steer_site
    with torch.no_grad():
        with emocircuits.steering(tiny, directions, {"calm": 0.2}):
            dialled = tiny.bridge(tokens)
        with steer(
            tiny.bridge, push_along(site, directions.vector("calm", site), 0.2, directions.scale(site))
        ):
            torch.testing.assert_close(dialled, tiny.bridge(tokens), atol=1e-5, rtol=1e-5)
        directions.save(tmp_path / "directions.h5")
        for source in (tmp_path, tmp_path / "directions.h5", str(tmp_path)):
            with emocircuits.steering(tiny.bridge, source, {"calm": 0.2}):
                assert torch.equal(dialled, tiny.bridge(tokens))
        with emocircuits.steering(tiny, directions, {"calm": 0.0}):
            assert torch.equal(tiny.bridge(tokens), tiny.bridge(tokens))
    both = summed(dial_pushes(tiny, directions, {"calm": 0.2, "desperate": -0.1}, sites=tiny.sites))
    for site in tiny.sites:
        wanted = 0.2 * directions.vector("calm", site) - 0.1 * directions.vector("desperate", site)
        np.testing.assert_allclose(both[site], directions.scale(site) * wanted.astype(np.float64), atol=1e-6)


def test_a_push_is_strength_times_norm_times_direction(tiny):
    directions = directions_for(tiny)
    for name, unit in (
        ("calm", directions.vector("calm", tiny.sites[0])),
        ("random 3", directions.controls["random"].vectors[0, 3]),
    ):
        push = directions.push(name, -0.25, tiny.sites[0])
        assert (push.name, push.site) == (name, tiny.sites[0])
        np.testing.assert_allclose(push.vector, -0.25 * 4.0 * unit, rtol=1e-6)
    assert directions.push("calm", 0.1).site == directions.steer_site
    with pytest.raises(UserError, match="unknown emotion or control 'clam'"):
        directions.push("clam", 0.1)
    with pytest.raises(UserError, match="length in residual units"):
        directions.push("calm", 4.0)


def test_the_dial_refuses_what_does_not_fit(tiny):
    directions = directions_for(tiny)
    for changed, bias, options, text in (
        (replace(directions, model_hash="f" * 64), {"calm": 0.1}, {}, "belong to another model"),
        (directions, {"clam": 0.1}, {}, "did you mean 'calm'"),
        (directions, {"calm": 5}, {}, "length in residual units"),
        (directions, {"calm": 0.1}, {"sites": "blocks.9.hook_resid_post"}, "unknown site"),
        (
            replace(directions, sites=(*tiny.sites[:2], "blocks.0.hook_mlp_out"), read_site=tiny.sites[0]),
            {"calm": 0.1},
            {},
            "read at blocks.0.hook_mlp_out",
        ),
    ):
        with pytest.raises(UserError, match=text), emocircuits.steering(tiny, changed, bias, **options):
            tiny.bridge(torch.arange(4, 10)[None])
    with (
        pytest.raises(UserError, match="the model's 12"),
        emocircuits.steering(random_model(), directions, {"calm": 0.1}),
    ):
        pass
