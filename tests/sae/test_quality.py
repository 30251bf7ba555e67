"""What an SAE reconstructs, against explicit loops in float64."""

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures.small_sae import SITE, D, small_model, small_sae, small_store
from sae_lens import StandardSAE, StandardSAEConfig

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.errors import UserError
from emocircuits.sae.quality import firing_rates, reconstruction


@pytest.fixture(scope="module")
def sae():
    return small_sae()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(small_model(), tmp_path_factory.mktemp("q") / "a.h5")


def test_reconstruction_equals_an_explicit_loop(store, sae):
    rows = store.select(np.ones(7, dtype=bool), start=1)
    got = reconstruction(sae, store, SITE, rows)
    x = store.read(SITE, rows).astype(np.float64)
    w_enc, w_dec, b_enc, b_dec = (
        getattr(sae, n).double().numpy() for n in ("W_enc", "W_dec", "b_enc", "b_dec")
    )
    lost, kept, fired = 0.0, 0.0, np.zeros(30)
    for row in x:
        pre = (row - b_dec) @ w_enc + b_enc
        acts = np.zeros(30)
        for i in sorted(range(30), key=lambda i: -pre[i])[:5]:
            acts[i] = max(0.0, pre[i])
        fired += acts != 0
        lost += ((row - acts @ w_dec - b_dec) ** 2).sum()
        kept += ((acts @ w_dec) ** 2).sum()
    assert got.tokens == len(rows)
    assert got.l0 == pytest.approx(fired.sum() / len(rows), abs=1e-12)
    assert got.fvu == pytest.approx(lost / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)
    assert got.shrinkage == pytest.approx((kept / ((x - b_dec) ** 2).sum()) ** 0.5, rel=1e-5)
    assert got.dead_fraction == pytest.approx((fired == 0).mean()) and got.dead_fraction > 0
    assert got.dense_fraction == pytest.approx((fired / len(rows) > 0.1).mean())


def test_fvu_is_exact_with_a_huge_mean(tmp_path):
    """FVU is 1 for the best constant, whatever the mean: single precision sums would lose it."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, D)) + 3e3).astype(np.float32)
    prompts = pd.DataFrame({"id": ["a"]})
    with ActivationStoreWriter(
        tmp_path / "a.h5", (SITE,), D, prompts, [np.arange(500)], {}, "float32"
    ) as writer:
        writer.append([0], {SITE: x})
        writer.finish()
    silent = StandardSAE(StandardSAEConfig(d_in=D, d_sae=4))
    with torch.no_grad():
        silent.b_enc.fill_(-1e9)
        silent.b_dec.copy_(torch.from_numpy(x.mean(0, dtype=np.float64)))
    got = reconstruction(silent, ActivationStore.open(tmp_path / "a.h5"), SITE, np.arange(500))
    assert got.fvu == pytest.approx(1.0, abs=1e-6) and got.l0 == 0 and got.dead_fraction == 1


def test_firing_rates_are_those_of_the_reconstruction(store, sae):
    rows = store.select(np.ones(7, dtype=bool), start=1)
    rates, got = firing_rates(sae, store, SITE, rows), reconstruction(sae, store, SITE, rows)
    assert rates.sum() == pytest.approx(got.l0) and (rates == 0).mean() == got.dead_fraction > 0
    for feature in range(30):
        acts = sae.encode(torch.from_numpy(store.read(SITE, rows))).to_dense()[:, feature]
        assert rates[feature] == pytest.approx(float((acts != 0).double().mean()))


def test_errors(sae, store):
    with pytest.raises(UserError, match="no rows"):
        reconstruction(sae, store, SITE, np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="no rows"):
        firing_rates(sae, store, SITE, np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="has d_in 7"):
        reconstruction(StandardSAE(StandardSAEConfig(d_in=7, d_sae=9)), store, SITE, np.arange(3))
