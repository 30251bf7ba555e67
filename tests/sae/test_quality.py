"""Quality numbers against explicit loops in float64 and against sae-lens' own spliced model."""

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import HookedSAETransformer, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformerConfig

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.errors import Failure, UserError
from emocircuits.sae import loss_recovered, quality_row, reconstruction
from emocircuits.sae.quality import LossRecovered, equal_length_batches

SITE, D = "blocks.0.hook_resid_post", 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    lm = HookedSAETransformer(
        HookedTransformerConfig(
            n_layers=2, d_model=D, n_ctx=16, d_head=4, n_heads=3, d_vocab=20, act_fn="gelu", seed=1
        )
    )
    with torch.no_grad():
        lm.unembed.W_U *= 4
        lm.blocks[1].mlp.W_out *= 4
    return lm.eval()


@pytest.fixture(scope="module")
def sae():
    torch.manual_seed(1)
    made = TopKSAE(
        TopKSAEConfig(d_in=D, d_sae=30, k=5, metadata=SAEMetadata(hook_name=SITE, mean_to_spread=1.0))
    )
    with torch.no_grad():
        made.b_dec.copy_(torch.randn(D))
        made.W_enc[:, 7] = 0
        made.b_enc[7] = -100.0
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    rng = np.random.default_rng(0)
    lengths = [5, 9, 5, 12, 9, 3, 2]
    tokens = [rng.integers(0, 20, n) for n in lengths]
    rows = [model.run_with_cache(torch.from_numpy(t)[None])[1][SITE][0].detach().numpy() for t in tokens]
    path = tmp_path_factory.mktemp("q") / "a.h5"
    prompts = pd.DataFrame({"id": list("abcdefg"), "split": ["train", "held_out"] * 3 + ["held_out"]})
    with ActivationStoreWriter(path, (SITE,), D, prompts, tokens, {}, "float32") as writer:
        writer.append(np.arange(7), {SITE: np.concatenate(rows)})
        writer.finish()
    return ActivationStore.open(path)


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


def test_loss_recovered_equals_sae_lens_and_an_explicit_loop(model, sae, store):
    mean = store.read(SITE, slice(None)).mean(0)
    batches = list(equal_length_batches(store, np.arange(7)))
    assert sorted(b.numel() for b in batches) == sorted([10, 18, 12, 3, 2])
    got = loss_recovered(model, sae, SITE, batches, mean, skip_positions=0)
    sums, kl, count = np.zeros(4), 0.0, 0
    for prompt in range(7):
        offset, n = int(store.prompts["offset"][prompt]), int(store.prompts["n_tokens"][prompt])
        tokens = torch.from_numpy(store.tokens[offset : offset + n].astype(np.int64))[None]
        with torch.no_grad():
            outputs = [
                model(tokens),
                model.run_with_saes(tokens, saes=[sae]),
                model.run_with_hooks(
                    tokens, fwd_hooks=[(SITE, lambda v, hook: torch.from_numpy(mean).expand_as(v))]
                ),
                model.run_with_hooks(tokens, fwd_hooks=[(SITE, lambda v, hook: torch.zeros_like(v))]),
            ]
            left, right = (logits[0, :-1].double().log_softmax(-1) for logits in outputs[:2])
            kl += float(torch.nn.functional.kl_div(right, left, reduction="sum", log_target=True))
        for place, logits in enumerate(outputs):
            for pos in range(n - 1):
                scores = logits[0, pos].double()
                sums[place] += float(torch.logsumexp(scores, 0) - scores[tokens[0, pos + 1]])
        count += n - 1
    clean, spliced, ablated, zeroed = sums / count
    assert got.tokens == count
    assert (got.clean, got.sae, got.ablated, got.zeroed) == pytest.approx(
        (clean, spliced, ablated, zeroed), abs=1e-5
    )
    assert got.kl == pytest.approx(kl / count, rel=1e-4) and got.kl > 0
    assert got.ce_loss_recovered_zero == pytest.approx((zeroed - spliced) / (zeroed - clean), rel=1e-3)
    assert got.ce_loss_recovered == pytest.approx((ablated - spliced) / (ablated - clean), rel=1e-3)


def test_skipped_positions_stay_untouched(model, sae, store):
    batches = list(equal_length_batches(store, np.array([3])))
    seen = {}
    loss_recovered(model, sae, SITE, batches, np.zeros(D), skip_positions=4)
    with (
        torch.no_grad(),
        model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda v, hook: seen.update(x=v))]),
    ):
        model(batches[0])
    got = loss_recovered(model, sae, SITE, batches, np.zeros(D), skip_positions=4)
    assert got.tokens == 12 - 1 - 4
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


def test_quality_row(model, sae, store):
    row = quality_row(model, sae, store, SITE)
    held = np.isin(store.prompt_index, [1, 3, 5, 6]) & (store.positions > 0)
    assert row["tokens"] == held.sum() and row["counted_tokens"] == (store.positions > 0).sum()
    assert row["fvu"] == reconstruction(sae, store, SITE, np.flatnonzero(held)).fvu
    assert list(row)[:9] == [
        "site",
        "architecture",
        "d_in",
        "d_sae",
        "l0",
        "fvu",
        "ce_loss_recovered",
        "dead_fraction",
        "tokens",
    ]


def test_errors(model, sae, store):
    with pytest.raises(UserError, match="no rows"):
        reconstruction(sae, store, SITE, np.array([], dtype=np.int64))
    with pytest.raises(UserError, match="has d_in 7"):
        reconstruction(StandardSAE(StandardSAEConfig(d_in=7, d_sae=9)), store, SITE, np.arange(3))
    with pytest.raises(UserError, match="no prompt is long enough"):
        loss_recovered(model, sae, SITE, equal_length_batches(store, np.array([6])), np.zeros(D))
    with pytest.raises(Failure, match="not defined"):
        LossRecovered(1.0, 1.0, 1.0, 1.0, 0.0, 5).ce_loss_recovered
