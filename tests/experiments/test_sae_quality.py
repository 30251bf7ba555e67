"""The loss with SAEs in place, against an explicit loop and sae-lens' own spliced model; `saes.csv`."""

import numpy as np
import pytest
import torch
from fixtures.small_sae import SITE, D, small_model, small_sae, small_store

from emocircuits.errors import Failure, UserError
from emocircuits.experiments.sae_quality import (
    LossRecovered,
    loss_recovered,
    quality_rows,
)
from emocircuits.sae.quality import reconstruction


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def sae():
    return small_sae()


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    return small_store(model, tmp_path_factory.mktemp("q") / "a.h5")


def prompts_of(store):
    ends = np.cumsum(store.prompts["n_tokens"])
    return [torch.from_numpy(part.astype(np.int64)) for part in np.split(store.tokens, ends[:-1])]


@pytest.mark.parametrize("batch_tokens", [1, 20, 2048])
def test_loss_recovered_equals_sae_lens_and_an_explicit_loop(model, sae, store, batch_tokens):
    mean = store.read(SITE, slice(None)).mean(0)
    prompts = prompts_of(store)
    got = loss_recovered(
        model, {SITE: sae}, prompts, {SITE: mean}, skip_positions=0, batch_tokens=batch_tokens
    )[SITE]
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
    prompts = prompts_of(store)[3:4]
    seen = {}
    loss_recovered(model, {SITE: sae}, prompts, {SITE: np.zeros(D)}, skip_positions=4)
    with (
        torch.no_grad(),
        model.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda v, hook: seen.update(x=v))]),
    ):
        model(prompts[0][None])
    got = loss_recovered(model, {SITE: sae}, prompts, {SITE: np.zeros(D)}, skip_positions=4)[SITE]
    assert got.tokens == 12 - 1 - 4
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


def test_quality_rows(model, sae, store):
    row = quality_rows(model, {SITE: sae}, store)[0]
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


@pytest.mark.parametrize("site", ["blocks.1.hook_resid_post", "blocks.1.hook_resid_pre"])
def test_any_site_equals_whole_passes_with_hooks(model, store, site):
    made = small_sae(site)
    prompts = prompts_of(store)
    mean = np.linspace(-1, 1, D)
    got = loss_recovered(model, {site: made}, prompts, {site: mean})[site]

    def with_edit(edit):
        total = 0.0
        for tokens in (prompt[None] for prompt in prompts if len(prompt) > 2):

            def hook(value, hook):
                value[:, 1:] = edit(value[:, 1:])
                return value

            with torch.no_grad():
                logits = model.run_with_hooks(tokens, fwd_hooks=[(site, hook)])[:, 1:-1]
            total -= float(logits.log_softmax(-1).gather(-1, tokens[:, 2:, None]).sum())
        return total / got.tokens

    assert got.clean == pytest.approx(with_edit(lambda x: x), rel=1e-5)
    assert got.sae == pytest.approx(with_edit(lambda x: made.decode(made.encode(x))), rel=1e-5)
    assert got.ablated == pytest.approx(
        with_edit(lambda x: torch.from_numpy(mean).float().expand_as(x)), rel=1e-5
    )
    assert got.zeroed == pytest.approx(with_edit(torch.zeros_like), rel=1e-5)


def test_two_sites_at_once_are_measured_as_each_alone(model, sae, store):
    prompts = prompts_of(store)
    second = "blocks.1.hook_resid_post"
    saes, means = {SITE: sae, second: small_sae(second)}, {SITE: np.ones(D), second: np.zeros(D)}
    both = loss_recovered(model, saes, prompts, means)
    for site in saes:
        assert both[site] == loss_recovered(model, {site: saes[site]}, prompts, means)[site]


def test_errors(model, sae, store):
    with pytest.raises(UserError, match="no prompt is long enough"):
        loss_recovered(model, {SITE: sae}, prompts_of(store)[6:], {SITE: np.zeros(D)})
    with pytest.raises(Failure, match="not defined"):
        LossRecovered(1.0, 1.0, 1.0, 1.0, 0.0, 5).ce_loss_recovered
