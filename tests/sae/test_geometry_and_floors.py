"""Geometry of dictionaries and the floors beside them, against cases whose answer is known."""

import numpy as np
import pytest
import torch
from fixtures.planted_store import SITES, D, planted_store
from sae_lens import StandardSAE, StandardSAEConfig

from emocircuits.errors import UserError
from emocircuits.sae.floors import pca_fvu
from emocircuits.sae.geometry import decoder_encoder_cosine, seed_agreement


def sae(d_in=8, d_sae=20):
    made = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=d_sae))
    made.W_dec.data = torch.randn(d_sae, d_in)
    made.W_enc.data = torch.randn(d_in, d_sae)
    return made


def test_a_permuted_dictionary_agrees_fully_whatever_its_scale():
    first, second = sae(), sae()
    order = torch.randperm(20)
    second.W_dec.data, second.W_enc.data = first.W_dec.data[order] * 3, first.W_enc.data[:, order] * 0.2
    got = seed_agreement(first, second)
    assert got.mean_cosine == pytest.approx(1) and got.same_fraction == 1 and got.features == 20


def test_unrelated_dictionaries_agree_as_much_as_chance_and_opposite_ones_less():
    got = seed_agreement(sae(32, 128), sae(32, 128))
    assert got.mean_cosine == pytest.approx(got.chance_cosine, abs=0.03) and got.same_fraction < 0.05
    assert 0.35 < got.chance_cosine < 0.55
    first = sae(2, 1)
    second = sae(2, 1)
    second.W_dec.data = -first.W_dec.data
    assert seed_agreement(first, second).mean_cosine == pytest.approx(-1)
    with pytest.raises(UserError, match="shapes .20, 8. and .21, 8. cannot be paired"):
        seed_agreement(sae(), sae(d_sae=21))


def test_decoder_encoder_cosine():
    one = sae(2, 3)
    one.W_dec.data = torch.tensor([[1.0, 0], [0, 2.0], [0, 0]])
    one.W_enc.data = torch.tensor([[3.0, 4.0, 1.0], [4.0, 3.0, 1.0]])
    assert decoder_encoder_cosine(one) == pytest.approx((0.6 + 0.6) / 2)  # the zero row is left out


def test_pca_floor_equals_the_eigenvalues(tmp_path):
    store = planted_store(tmp_path / "a.h5", n_prompts=50)
    rows = store.select(np.ones(50, dtype=bool), start=1)
    x = store.read(SITES[0], rows).astype(np.float64)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    for components in (0, 1, 5, D):
        expected = values[components:].sum() / values.sum()
        assert pca_fvu(store, SITES[0], rows, rows, components) == pytest.approx(expected, abs=1e-9)
    half = len(rows) // 2
    fitted = pca_fvu(store, SITES[0], rows[:half], rows[half:], 5)
    assert 0 < fitted < 1 and fitted != pca_fvu(store, SITES[0], rows, rows, 5)
