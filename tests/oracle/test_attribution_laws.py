"""Laws of attribution: equalities in float64, on random models, for every SAE architecture."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes, sae_of
from planted.tasks import feature_edges, task_of

from emocircuits import attribute
from emocircuits.attribution.methods.exact import patched_nodes
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.slopes import slopes
from emocircuits.interventions.splice import splice
from emocircuits.names import residual_site
from emocircuits.sae.dictionary import open_dictionaries, whole_stream

ARCHITECTURES = ("standard", "topk", "jumprelu")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_linear_model_attribution_equals_exact_patching(architecture):
    model, saes = random_model(linear=True), random_saes(architecture, 3, 12)
    batches = [random_batch(5, 7), random_batch(3, 6, start=5)]
    cheap = attribute(task_of(model, batches, difference, saes), edges=False)
    exact = patched_nodes(task_of(model, batches, difference, saes), cheap.nodes)
    assert len(cheap.nodes) > 40
    assert np.abs(cheap.effects).max() > 0.1
    np.testing.assert_allclose(cheap.effects, exact.effects, atol=1e-9, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_effects_of_a_site_add_up_to_the_metric_change_on_a_linear_model(architecture):
    model, saes = random_model(linear=True), random_saes(architecture, 3, 12)
    result = attribute(task_of(model, random_batch(), difference, saes), edges=False)
    for site in saes:
        total = result.effects[:, [site in node for node in result.nodes]].sum(1)
        np.testing.assert_allclose(total, result.metric_clean - result.metric_corrupt, atol=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("positions", [False, True])
def test_out_edges_add_up_to_the_node_effect(architecture, positions):
    """On a model with attention, MLPs and LayerNorm; downstream nodes: all features and errors."""
    model, saes = random_model(), random_saes(architecture, 3, 12)
    batch = random_batch(3)
    result = attribute(task_of(model, batch, difference, saes), edges=False, positions=positions)
    width = 24
    every = [f"feature/{site}/{i}" for site in saes for i in range(width)] + [
        f"error/{site}" for site in saes
    ]
    if positions:
        every = [f"{node}/p{p}" for node in every for p in range(7)]
    edges = feature_edges(task_of(model, batch, difference, saes, max_tokens=200), every)
    sums = np.zeros((3, len(every)))
    np.add.at(sums.T, np.repeat(np.arange(len(every)), np.diff(edges.indptr)), edges.effects.T)
    expected = dict(zip(result.nodes, result.effects.T, strict=True))
    for number, node in enumerate(every):
        np.testing.assert_allclose(sums[:, number], expected.get(node, np.zeros(3)), atol=1e-9, err_msg=node)


def test_effects_equal_the_gradients_at_the_spliced_leaves():
    """The splice with real feature and error leaves, differentiated by autograd, is the oracle of the closed
    form.
    """
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch()
    with splice(model, saes) as leaves, torch.no_grad():
        model(batch.clean)
        clean = {
            site: (leaf.features.detach().clone(), leaf.error.detach().clone())
            for site, leaf in leaves.items()
        }
    with splice(model, saes) as leaves:
        difference(model(batch.corrupt)).sum().backward()
    result = attribute(task_of(model, batch, difference, saes), edges=False)
    found = dict(zip(result.nodes, result.effects.T, strict=True))
    for site, leaf in leaves.items():
        features = ((clean[site][0] - leaf.features) * leaf.features.grad).sum(1).detach().numpy()
        error = ((clean[site][1] - leaf.error) * leaf.error.grad).sum((1, 2)).detach().numpy()
        np.testing.assert_allclose(found[f"error/{site}"], error, atol=1e-10)
        for i in range(24):
            np.testing.assert_allclose(
                found.get(f"feature/{site}/{i}", np.zeros(5)), features[:, i], atol=1e-10
            )


def test_edges_equal_a_loop_of_single_backward_passes():
    """One backward pass per downstream feature on the model itself, no batching, no matrix product."""
    model, saes, batch = random_model(), random_saes("standard", 2, 12), random_batch(2)
    up, down = saes
    nodes = [f"feature/{up}/{i}" for i in range(24)] + [f"feature/{down}/{i}" for i in (1, 4, 9)]
    edges = feature_edges(task_of(model, batch, difference, saes), nodes)
    table = np.zeros((2, len(nodes), len(nodes) + 1))
    table[:, np.repeat(np.arange(len(nodes)), np.diff(edges.indptr)), edges.targets] = edges.effects
    streams = {}

    def keep(x, hook):
        x = x.detach().requires_grad_() if hook.name == up else x
        streams[hook.name] = x
        return x

    with torch.no_grad():
        _, cache = model.run_with_cache(batch.clean, names_filter=list(saes))
    with model.hooks(fwd_hooks=[(site, keep) for site in saes]):
        value = difference(model(batch.corrupt))
    (grad,) = torch.autograd.grad(value.sum(), streams[down], retain_graph=True)
    clean_up, corrupt_up = saes[up].encode(cache[up]), saes[up].encode(streams[up])
    for j, d in enumerate((1, 4, 9)):
        sae = saes[down]
        pre_clean, pre = (
            (x - sae.b_dec) @ sae.W_enc[:, d] + sae.b_enc[d] for x in (cache[down], streams[down])
        )
        slope = torch.where(
            (pre_clean > 0) & (pre > 0), 1.0, (pre_clean.relu() - pre.relu()) / (pre_clean - pre + 1e-300)
        )
        seed = (slope * (grad @ sae.W_dec[d]))[..., None] * sae.W_enc[:, d]
        (back,) = torch.autograd.grad(streams[down], streams[up], seed.detach(), retain_graph=True)
        expected = ((clean_up - corrupt_up) * (back @ saes[up].W_dec.T)).sum(1).detach().numpy()
        np.testing.assert_allclose(table[:, :24, 24 + j], expected, atol=1e-9)


def test_slope_is_one_where_active_twice_the_secant_where_active_once_and_zero_elsewhere():
    """f = relu(x - 5): 3 -> 27 gives f 0 -> 22 over a preactivation step of 24."""
    site = residual_site(0)
    eye = torch.eye(3, dtype=torch.float64)
    sae = sae_of(site, "standard", eye, eye, bias=torch.full((3,), -5.0, dtype=torch.float64))
    run = SiteRun(
        open_dictionaries({site: sae})[site],
        torch.tensor([[[27.0, 9.0, 2.0]]], dtype=torch.float64),
        torch.tensor([[[3.0, 6.0, 1.0]]], dtype=torch.float64),
    )
    torch.testing.assert_close(slopes(run)[0, 0], torch.tensor([22 / 24, 1.0, 0.0], dtype=torch.float64))
    jump = sae_of(site, "jumprelu", eye, eye, threshold=torch.full((3,), 5.0, dtype=torch.float64))
    run = SiteRun(
        open_dictionaries({site: jump})[site],
        torch.tensor([[[5.5, 9.0, 2.0]]], dtype=torch.float64),
        torch.tensor([[[4.5, 6.0, 1.0]]], dtype=torch.float64),
    )
    torch.testing.assert_close(slopes(run)[0, 0], torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))


def test_whole_stream_nodes_carry_the_whole_effect():
    model, batch = random_model(linear=True), random_batch()
    site = "blocks.0.hook_resid_pre"
    result = attribute(
        task_of(model, batch, difference, {site: whole_stream(site, 12, torch.float64)}), edges=False
    )
    np.testing.assert_allclose(result.effects.sum(1), result.metric_clean - result.metric_corrupt, atol=1e-9)
    assert result.nodes == (f"error/{site}",)


def test_one_prompt_at_a_time_equals_all_at_once():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(8)
    whole = attribute(task_of(model, batch, difference, saes), edges=False)
    singles = [batch.rows(slice(i, i + 1)) for i in reversed(range(8))]
    parts = attribute(task_of(model, singles, difference, saes, max_tokens=1), edges=False)
    assert whole.nodes == parts.nodes
    np.testing.assert_allclose(whole.effects, parts.effects, atol=1e-12)
    np.testing.assert_allclose(whole.metric_clean, parts.metric_clean, atol=1e-12)
    nodes = whole.nodes[::7]
    exact, one_by_one = (
        patched_nodes(task_of(model, b, difference, saes, max_tokens=m), nodes)
        for b, m in (([batch], 4096), (singles, 1))
    )
    np.testing.assert_allclose(exact.effects, one_by_one.effects, atol=1e-12)
    one, two = (
        feature_edges(task_of(model, b, difference, saes, max_tokens=m), nodes)
        for b, m in (([batch], 4096), (singles, 1))
    )
    np.testing.assert_array_equal(one.targets, two.targets)
    np.testing.assert_allclose(one.effects, two.effects, atol=1e-12)


def test_positions_add_up_to_the_sum_over_positions():
    model, saes, batch = random_model(), random_saes("jumprelu", 3, 12), random_batch()
    summed = attribute(task_of(model, batch, difference, saes), edges=False)
    apart = attribute(task_of(model, batch, difference, saes), edges=False, positions=True)
    parents = [node.rsplit("/p", 1)[0] for node in apart.nodes]
    for node, effect in zip(summed.nodes, summed.effects.T, strict=True):
        columns = [i for i, parent in enumerate(parents) if parent == node]
        np.testing.assert_allclose(apart.effects[:, columns].sum(1), effect, atol=1e-10)
    exact = patched_nodes(task_of(model, batch, difference, saes), apart.nodes[:5])
    assert np.isfinite(exact.effects).all()
