"""The texts where a feature is most active, found by asking the SAE about few rows."""

import numpy as np
import pytest
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, TopKSAE, TopKSAEConfig

from emocircuits.circuits import feature_cards
from emocircuits.circuits.feature_cards import N_EXAMPLES, _peaks
from emocircuits.sae.dictionary import open_dictionaries

SITE, WIDTH, FEATURES = "blocks.0.hook_resid_post", 12, 40


def _sae(kind):
    if kind == "topk":
        sae = TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=FEATURES, k=3))
    else:
        sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=WIDTH, d_sae=FEATURES))
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) / 2)
        if kind == "jumprelu":
            sae.threshold.copy_(sae.threshold.abs() + 1)
    return open_dictionaries({SITE: sae})[SITE]


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
@pytest.mark.parametrize("texts", [3, 200])
def test_the_best_texts_are_those_of_all_rows(kind, texts, monkeypatch):
    monkeypatch.setattr(feature_cards, "ASKED", 20)
    dictionary, source = _sae(kind), np.random.default_rng(1)
    stream = source.standard_normal((texts * 30, WIDTH), dtype=np.float32)
    text_of, features = np.repeat(np.arange(texts), 30), [0, 7, 8, 39]
    read = []

    def rows(numbers):
        read.append(len(numbers))
        return stream[numbers]

    found = _peaks(dictionary, rows, np.arange(len(stream)), text_of, features)
    acts = dictionary.encode(torch.from_numpy(stream))[:, features].numpy()
    true = acts.reshape(texts, 30, len(features)).max(1)
    best = np.sort(true, axis=0)[-N_EXAMPLES:]
    assert best.max() > 0
    assert np.allclose(np.sort(found, axis=0)[-N_EXAMPLES:], best)
    among = found >= best[0]
    assert np.allclose(found[among], true[among]) and (found <= true + 1e-6).all()
    if texts > 100:  # all rows once for the preactivations, few for the SAE
        assert sum(read) < 1.7 * len(stream)
