"""Splicing SAEs leaves logits and gradients as they are."""

import pytest
import torch
from interventions.bridges import hooks_of, native_bridge
from planted.paper_model import difference, random_batch, random_model, random_saes

from emocircuits.interventions.splice import splice
from emocircuits.names import residual_site

SITE = residual_site(1)


@pytest.fixture(scope="module")
def bridge():
    return native_bridge()


@pytest.fixture(params=["bridge", "hooked_transformer"])
def model(request):
    return (
        request.getfixturevalue("bridge") if request.param == "bridge" else random_model(dtype=torch.float32)
    )


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
