"""Splicing changes nothing by itself, every edit does what it says, and no hook outlives its context."""

import pytest
import torch
from fixtures.make_directions import push_along
from planted.paper_model import difference, random_batch, random_model, random_saes, sae_of
from transformer_lens.model_bridge import TransformerBridge

from emocircuits.errors import Failure, UserError
from emocircuits.interventions import patch
from emocircuits.interventions.ablate import Baseline, Keep, ablate
from emocircuits.interventions.generate import sample
from emocircuits.interventions.splice import splice
from emocircuits.interventions.steer import steer
from emocircuits.names import residual_site
from emocircuits.passes.edit import edited
from emocircuits.sae.dictionary import open_dictionaries

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    torch.manual_seed(0)
    made = TransformerBridge.boot_native(
        dict(
            d_model=12, d_head=4, n_heads=3, n_layers=3, n_ctx=16, d_vocab=17, d_mlp=20, act_fn="gelu", seed=0
        ),
        device="cpu",
    )
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3)
    return made


@pytest.fixture(params=["bridge", "hooked_transformer"])
def model(request):
    return (
        request.getfixturevalue("bridge") if request.param == "bridge" else random_model(dtype=torch.float32)
    )


def hooks_of(model) -> int:
    return sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values())


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_splice_leaves_logits_and_upstream_gradients_as_they_are(model, architecture):
    tokens = random_batch(4).clean
    saes = random_saes(architecture, 3, 12, dtype=torch.float32)
    plain = model(tokens)
    with splice(model, saes) as leaves:
        spliced = model(tokens)
    assert (plain - spliced).abs().max() < 1e-5
    assert all(
        leaf.features.shape == (4, 7, 24) and leaf.error.shape == (4, 7, 12) for leaf in leaves.values()
    )
    assert all((leaf.features != 0).any() for leaf in leaves.values())
    grads = []
    for spliced_run in (False, True):
        stream = {}

        def start(x, hook=None, stream=stream):
            stream["x"] = x.detach().requires_grad_()
            return stream["x"]

        with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", start)]):
            if spliced_run:
                with splice(model, saes):
                    difference(model(tokens)).sum().backward()
            else:
                difference(model(tokens)).sum().backward()
        grads.append(stream["x"].grad.flatten())
    assert torch.cosine_similarity(*grads, dim=0) > 0.99999
    assert abs(grads[0].norm() / grads[1].norm() - 1) < 1e-4
    assert hooks_of(model) == 0


def test_sae_lens_own_error_term_does_not_pass_gradients_through():
    """The trap this splice exists for; if it goes away upstream, this test says so."""
    model, saes = random_model(), random_saes("standard", 3, 12)
    tokens = random_batch(2).clean
    stream = {}

    def start(x, hook=None):
        stream["x"] = x.detach().requires_grad_()
        return stream["x"]

    def graft(x, hook=None):
        sae = saes[SITE]
        return sae(x) + (x - sae(x)).detach()

    grads = []
    for hooks in ([], [(SITE, graft)]):
        with model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", start), *hooks]):
            difference(model(tokens)).sum().backward()
        grads.append(stream["x"].grad.flatten())
    assert torch.cosine_similarity(*grads, dim=0) < 0.99


def test_edits_are_undone_after_an_exception(model):
    tokens = random_batch(2).clean
    before = model(tokens)
    with pytest.raises(ZeroDivisionError), splice(model, random_saes("topk", 3, 12, dtype=torch.float32)):
        model(tokens)
        raise ZeroDivisionError
    with pytest.raises(UserError, match="shape"), patch.add(model, SITE, torch.ones(1, 1, 12)):
        model(tokens)
    assert hooks_of(model) == 0
    assert torch.equal(model(tokens), before)


def test_a_hook_that_never_runs_or_does_nothing_is_a_failure(model):
    tokens = random_batch(2).clean
    with pytest.raises(Failure, match="never ran"), steer(model, push_along(SITE, torch.randn(12), 0.1, 3.0)):
        pass
    with (
        pytest.raises(UserError, match="outside the prompt"),
        steer(model, push_along(SITE, torch.randn(12), 0.1, 3.0), positions=[40]),
    ):
        model(tokens)
    with pytest.raises(Failure, match="changed nothing"), edited(model, {SITE: lambda x: x + 0}, what="test"):
        model(tokens)
    with pytest.raises(Failure, match="returned shape"), edited(model, {SITE: lambda x: x[:1]}, what="test"):
        model(tokens)
    assert hooks_of(model) == 0


def test_patch_adds_and_replaces(model):
    clean, corrupt = random_batch(3).clean, random_batch(3).corrupt
    streams = {}
    with edited(
        model, {SITE: lambda x: streams.setdefault("clean", x.detach())}, what="read", must_change=False
    ):
        wanted = model(clean)
    with patch.replace(model, SITE, streams["clean"]):
        replaced = model(corrupt)
    assert (replaced - wanted).abs().max() < 1e-5
    with edited(
        model, {SITE: lambda x: streams.setdefault("corrupt", x.detach())}, what="read", must_change=False
    ):
        model(corrupt)
    with patch.add(model, SITE, streams["clean"] - streams["corrupt"]):
        added = model(corrupt)
    assert (added - wanted).abs().max() < 1e-4
    with patch.add(model, SITE, torch.zeros(3, 7, 12)):
        assert torch.equal(model(corrupt), model(corrupt))


def test_steering_adds_a_share_of_the_norm_along_the_unit_direction(model):
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


def test_ablating_everything_or_nothing_is_the_baseline_or_the_model():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(3)
    dictionaries = open_dictionaries(saes)
    streams = {}
    readers = {site: lambda x, site=site: streams.setdefault(site, x) for site in saes}
    with edited(model, readers, what="read", must_change=False):
        corrupt = model(batch.corrupt)
    baseline = {}
    for site, x in streams.items():
        features = dictionaries[site].encode(x)
        baseline[site] = Baseline(features, x - dictionaries[site].decode(features))
    for value, wanted in ((True, model(batch.clean)), (False, corrupt)):
        keep = {site: Keep(torch.full((1, 24), value), torch.tensor([value])) for site in saes}
        with ablate(model, saes, keep, baseline):
            torch.testing.assert_close(model(batch.clean), wanted, atol=1e-9, rtol=0)


def test_ablate_equals_the_splice_with_replaced_leaves():
    """The fast closed form against the splice, with a random half of the nodes kept per row."""
    model, saes, batch = random_model(), random_saes("jumprelu", 3, 12), random_batch(6)
    keep = {site: Keep(torch.rand(6, 24) < 0.5, torch.tensor([True, False] * 3)) for site in saes}
    baseline = {
        site: Baseline(torch.rand(6, 7, 24, dtype=torch.float64), torch.randn(6, 7, 12, dtype=torch.float64))
        for site in saes
    }

    def replace_at(site):
        return lambda f, e: (
            torch.where(keep[site].features[:, None], f, baseline[site].features),
            torch.where(keep[site].error[:, None, None], e, baseline[site].error),
        )

    with splice(model, saes, replace={site: replace_at(site) for site in saes}):
        wanted = model(batch.clean)
    with ablate(model, saes, keep, baseline):
        torch.testing.assert_close(model(batch.clean), wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_a_dictionary_agrees_with_its_sae(architecture):
    sae = random_saes(architecture, 1, 12)[residual_site(0)]
    dictionary = open_dictionaries({residual_site(0): sae})[residual_site(0)]
    x = torch.randn(50, 12, dtype=torch.float64)
    features = dictionary.encode(x)
    torch.testing.assert_close(dictionary.decode(features), sae.decode(sae.encode(x)), atol=1e-12, rtol=0)
    active = features != 0
    assert active.any() and not active.all()
    torch.testing.assert_close(dictionary.preactivation(x)[active], features[active], atol=1e-12, rtol=0)


def test_a_gated_dictionary_agrees_with_its_sae():
    site = residual_site(0)
    sae = sae_of(site, "gated", torch.randn(24, 12).double(), torch.randn(24, 12).double())
    with torch.no_grad():
        for parameter in (sae.r_mag, sae.b_mag, sae.b_gate, sae.b_dec):
            parameter.normal_(std=0.5)
    dictionary = open_dictionaries({site: sae})[site]
    x = torch.randn(50, 12, dtype=torch.float64)
    features = dictionary.encode(x)
    active = features != 0
    assert active.any() and not active.all()
    torch.testing.assert_close(dictionary.preactivation(x)[active], features[active], atol=1e-12, rtol=0)
    torch.testing.assert_close(dictionary.decode(features), sae.decode(features), atol=1e-12, rtol=0)


def test_dictionaries_that_do_not_fit_are_refused():
    site = residual_site(0)
    sae = random_saes("standard", 1, 12)[site]
    for wrong, given, text in (
        ({}, {}, "no SAE"),
        ({residual_site(2): sae}, {}, "was trained on"),
        ({site: sae}, {"d_model": 16}, "d_in 12"),
    ):
        with pytest.raises(UserError, match=text):
            open_dictionaries(wrong, **given)
    normalised = sae_of(site, "standard", torch.eye(4), torch.eye(4), normalize_activations="layer_norm")
    with pytest.raises(UserError, match="normalises"):
        open_dictionaries({site: normalised})
