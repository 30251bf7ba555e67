"""Effects without an aligned pair: equal to real ablations where the model is linear, and clear refusals."""

from functools import cache

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes

import emocircuits
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.edit import edited

# of another length and number
OTHER = torch.randint(0, 17, (6, 9), generator=torch.Generator().manual_seed(3))


def run(model, method="attribution_patching", other=OTHER, n=4, **options):
    clean = random_batch(n).clean
    return clean, emocircuits.attribute(model, clean, other, difference, method=method, **options)


@cache
def linear(method, nodes, baseline):
    torch.manual_seed(1)
    model, saes = random_model(linear=True), random_saes("topk", 2, 12)
    saes = (
        None
        if nodes == "components"
        else saes
        if nodes == "features"
        else {site: saes[site] for site in list(saes)[:1]}
    )
    return run(
        model,
        method,
        n=2,
        nodes=nodes,
        saes=saes,
        baseline=baseline,
        max_features=500,
        edges=nodes == "components",
    )[1]


@pytest.mark.parametrize("baseline", ABLATIONS.names())
@pytest.mark.parametrize("nodes", ["features", "components", "mixed"])
@pytest.mark.parametrize("method", ["attribution_patching", "integrated_gradients", "relp"])
def test_on_a_linear_model_every_method_is_the_real_ablation(baseline, nodes, method):
    cheap, exact = linear(method, nodes, baseline), linear("exact", nodes, baseline)
    assert cheap.nodes == exact.nodes and np.abs(exact.effects).max() > 0.1
    np.testing.assert_allclose(cheap.effects, exact.effects, atol=1e-9)
    np.testing.assert_allclose(cheap.metric_corrupt, exact.metric_corrupt, atol=1e-9)
    assert baseline in cheap.conventions["baseline"]
    if nodes == "components":
        np.testing.assert_allclose(cheap.edges.effects, exact.edges.effects, atol=1e-9)
        sums = np.zeros_like(exact.effects)
        np.add.at(sums.T, exact.edges.sources, exact.edges.effects.T)
        np.testing.assert_allclose(sums, exact.effects, atol=1e-9)


@pytest.mark.parametrize("baseline", ABLATIONS.names())
@pytest.mark.parametrize("norm", [None, "LN"])
def test_an_exact_effect_is_what_a_hook_by_hand_gives(baseline, norm):
    """The feature's activation is set to its mean, to nothing, or to what another prompt has, and the clean
    run measured.
    """
    model, saes = random_model(norm=norm), random_saes("standard", 2, 12)
    clean, exact = run(model, "exact", saes=saes, baseline=baseline, edges=False)
    site = list(saes)[1]
    name = next(node for node in exact.nodes if node.startswith(f"feature/{site}"))
    feature = int(name.rsplit("/", 1)[1])
    reference = saes[site].encode(model.run_with_cache(OTHER)[1][site])[..., feature]
    card, mean = ABLATIONS.get(baseline), reference.mean().view(1, 1)

    def ablated(x):
        now = saes[site].encode(x)[..., feature]
        return x + (wanted - now)[..., None] * saes[site].W_dec[feature]

    before, found = difference(model(clean)), exact.effects[:, exact.nodes.index(name)]
    options = []
    for row in reference[:, -7:]:  # the last seven positions of some other prompt, one for each prompt
        wanted = card.value(row[None], mean)
        with torch.no_grad(), edited(model, {site: ablated}, what="test", must_change=False):
            options.append((before - difference(model(clean))).numpy())
    assert (np.abs(np.array(options) - found).min(0) < 1e-10).all() and np.abs(found).max() > 0


@pytest.mark.parametrize("nodes", ["components", "features"])
@pytest.mark.parametrize("method", ["atp_star", "verified"])
def test_every_method_takes_a_baseline(nodes, method):
    model, saes = random_model(), random_saes("topk", 2, 12)
    _, found = run(
        model, method, nodes=nodes, saes=saes if nodes == "features" else None, baseline="mean", n=3
    )
    assert np.isfinite(found.effects).all() and np.abs(found.effects).max() > 1e-3 and len(found.edge_table())
    if method == "verified":
        torch.manual_seed(0)
        assert np.isfinite(found.verified).any()


def test_verified_components_are_the_exact_ones():
    model = random_model()
    torch.manual_seed(5)
    _, verified = run(model, "verified", nodes="components", baseline="resample", n=2, budget=5000)
    torch.manual_seed(5)
    _, exact = run(model, "exact", nodes="components", baseline="resample", n=2)
    np.testing.assert_allclose(verified.effects, exact.effects, atol=1e-10)
    np.testing.assert_allclose(verified.edges.effects, exact.edges.effects, atol=1e-10)


@pytest.mark.parametrize("baseline", ABLATIONS.names())
def test_batches_do_not_matter(baseline):
    model, saes = random_model(), random_saes("topk", 2, 12)
    for nodes in ("features", "components"):
        torch.manual_seed(2)
        _, whole = run(model, nodes=nodes, saes=saes, baseline=baseline, n=8)
        torch.manual_seed(2)
        _, parts = run(model, nodes=nodes, saes=saes, baseline=baseline, n=8, max_tokens=1)
        assert whole.nodes == parts.nodes
        np.testing.assert_allclose(whole.effects, parts.effects, atol=1e-10)
        np.testing.assert_allclose(whole.edges.effects, parts.edges.effects, atol=1e-10)


def test_without_corrupt_prompts_the_clean_ones_are_the_reference():
    model, saes = random_model(), random_saes("topk", 2, 12)
    for baseline in ABLATIONS.names():
        clean, found = run(model, saes=saes, other=None, baseline=baseline)
        again = emocircuits.attribute(model, clean, clean, difference, saes=saes, baseline=baseline)
        np.testing.assert_array_equal(found.effects, again.effects)


def test_refusals():
    model, saes = random_model(), random_saes("topk", 2, 12)
    with pytest.raises(UserError, match="baseline='mean'"):
        run(model, saes=saes)
    with pytest.raises(UserError, match="no corrupt prompts.*resample, mean, zero"):
        run(model, saes=saes, other=None)
    with pytest.raises(UserError, match="baseline 'median'.*mean"):
        run(model, saes=saes, baseline="median")
    with pytest.raises(UserError, match="no other prompt"):
        run(model, saes=saes, other=None, baseline="resample", n=1)
    with pytest.raises(UserError, match="not empty"):
        run(model, saes=saes, other=OTHER[:0], baseline="mean")
    with pytest.raises(UserError, match="steering with a baseline"):
        run(model, "steering", saes=saes, baseline="mean")
