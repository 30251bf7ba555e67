"""An opened SAE agrees with sae-lens'."""

import pytest
import torch
from planted.paper_model import random_saes, sae_of

from emocircuits.errors import UserError
from emocircuits.names import residual_site
from emocircuits.sae.dictionary import open_dictionaries


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
