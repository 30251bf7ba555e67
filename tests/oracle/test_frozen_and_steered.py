"""Oracles of RelP, of feature edges and of steering: real interventions in frozen models, hand-made sums,
finite differences.
"""

import numpy as np
import pytest
import torch
from oracle.frozen import frozen
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import feature_edges, task_of

import emocircuits
from emocircuits.artifacts.push import Push
from emocircuits.attribution.methods.relp import relp_rules
from emocircuits.attribution.methods.steered_features import feature_shares
from emocircuits.attribution.methods.steering import steered_effects
from emocircuits.errors import Failure, UserError
from emocircuits.graphs.steered import mean_difference, steered_graph
from emocircuits.names import residual_site
from emocircuits.sae.dictionary import open_dictionaries

SITES = [residual_site(layer) for layer in range(2)]


def test_every_edge_of_the_feature_graph_is_the_real_frozen_intervention():
    """Patterns, norm scales and activation ratios held: each node is patched alone, and what each later node
    makes of it is read off.
    """
    model, saes, batch = random_model(), random_saes("standard", 2, 12), random_batch(3)
    up, down = (open_dictionaries(saes)[site] for site in SITES)
    nodes = [f"feature/{SITES[0]}/{i}" for i in range(24)] + [f"error/{SITES[0]}"]
    later = [f"feature/{SITES[1]}/{i}" for i in range(24)] + [f"error/{SITES[1]}"]
    with relp_rules(task_of(model, batch, difference).anatomy):
        edges = feature_edges(task_of(model, batch, difference, saes), nodes + later)
    found = np.zeros((3, 50, 51))
    found[:, edges.sources, edges.targets] = edges.effects
    clean, corrupt = (model.run_with_cache(tokens)[1] for tokens in (batch.clean, batch.corrupt))
    f = {
        (d.site, side): d.encode(cache[d.site])
        for d in (up, down)
        for side, cache in (("clean", clean), ("corrupt", corrupt))
    }
    change = f[SITES[0], "clean"] - f[SITES[0], "corrupt"]
    error = clean[SITES[0]] - corrupt[SITES[0]] - change @ up.decoder
    pre = {
        side: down.preactivation(cache[SITES[1]]) for side, cache in (("clean", clean), ("corrupt", corrupt))
    }
    on = f[SITES[1], "clean"] != 0, f[SITES[1], "corrupt"] != 0
    secant = ((f[SITES[1], "clean"] - f[SITES[1], "corrupt"]) / (pre["clean"] - pre["corrupt"])).clamp(0, 3)
    slope = torch.where(on[0] & on[1], 1.0, torch.where(on[0] | on[1], secant, 0.0))
    with frozen(model, batch.corrupt):
        before = difference(model(batch.corrupt))
        for number in range(25):
            delta = error if number == 24 else change[..., number, None] * up.decoder[number]
            seen = []
            with model.hooks(
                fwd_hooks=[(SITES[0], lambda x, hook: x + delta), (SITES[1], lambda x, hook: seen.append(x))]
            ):
                model(batch.corrupt)
            moved = seen[0] - corrupt[SITES[1]]
            answers = slope * (moved @ down.encoder)
            parts = [answers[..., j, None] * down.decoder[j] for j in range(24)]
            parts.append(moved - answers @ down.decoder)
            for target, part in enumerate(parts):
                with model.hooks(fwd_hooks=[(SITES[1], lambda x, hook: x + part)]):
                    effect = (difference(model(batch.corrupt)) - before).numpy()
                np.testing.assert_allclose(found[:, number, 25 + target], effect, rtol=1e-4, atol=1e-9)
    assert np.abs(found).max() > 0.1


@pytest.mark.parametrize("norm", [None, "LN", "RMS"])
def test_relp_is_the_real_patch_in_the_frozen_model(norm):
    """Nodes and edges: what a node writes is added for real, to all that follows or to one slot's value
    alone.
    """
    model, batch = random_model(norm=norm), random_batch(3)
    result = emocircuits.attribute(
        model, batch.clean, batch.corrupt, difference, nodes="components", method="relp"
    )
    table = result.edge_table()
    assert table.effect[table.target.str.contains("<q>|<k>")].abs().max() == 0
    clean, corrupt = (model.run_with_cache(tokens)[1] for tokens in (batch.clean, batch.corrupt))
    with frozen(model, batch.corrupt):
        before = difference(model(batch.corrupt))
        for node in ("embed", "a0.h1", "m0", "a1.h2", "m1", "a2.h0", "m2"):
            if node == "embed":
                name, change, head = (
                    "blocks.0.hook_resid_pre",
                    clean["hook_embed"] - corrupt["hook_embed"],
                    None,
                )
            elif node[0] == "m":
                name, head = f"blocks.{node[1]}.hook_mlp_out", None
                change = clean[name] - corrupt[name]
            else:
                name, head = f"blocks.{node[1]}.attn.hook_z", int(node[-1])
                change = torch.zeros_like(corrupt[name])
                change[:, :, head] = (clean[name] - corrupt[name])[:, :, head]
            with model.hooks(fwd_hooks=[(name, lambda x, hook: x + change)]):
                effect = (difference(model(batch.corrupt)) - before).numpy()
            np.testing.assert_allclose(
                result.effects[:, result.nodes.index(node)], effect, atol=1e-9, err_msg=node
            )


def push_of(scale=1.0, site=SITES[0]):
    return Push("x", site, scale * torch.randn(12, dtype=torch.float64))


def test_steering_edges_split_the_effect_of_the_push():
    model, batch = random_model(), random_batch(3)
    push = push_of(0.3)
    graph = steered_graph(task_of(model, batch, difference), push)
    coarse, fine = (steered_effects(graph, push, steps=steps) for steps in (8, 64))
    with torch.no_grad(), model.hooks(fwd_hooks=[(SITES[0], lambda x, hook: x + push.vector)]):
        steered = difference(model(batch.corrupt)).numpy()
    change = steered - difference(model(batch.corrupt)).numpy()
    np.testing.assert_allclose(coarse.metric_clean - coarse.metric_corrupt, change, atol=1e-12)
    gaps = []
    for result in (coarse, fine):
        place = result.nodes.index("direction/x")
        split = result.edges.effects[:, result.edges.sources == place].sum(1)
        np.testing.assert_allclose(split, result.effects[:, place], atol=1e-10)
        gaps.append(np.abs(split - change).max())
    assert gaps[1] < gaps[0] / 20 and gaps[1] < 1e-3 * np.abs(change).max()
    assert not any(node in fine.nodes for node in ("embed", "a0.h0", "m0"))  # nothing before the push


def test_steering_nodes_on_a_linear_model_are_real_patches():
    """The head's steered output alone is put into the unsteered run."""
    model, batch = random_model(linear=True), random_batch(3)
    push = push_of()
    result = emocircuits.attribute(
        model, batch.clean, batch.corrupt, difference, nodes="components", method="steering", push=push
    )
    with torch.no_grad(), model.hooks(fwd_hooks=[(SITES[0], lambda x, hook: x + push.vector)]):
        _, steered = model.run_with_cache(batch.corrupt)
    for layer, head in ((1, 0), (1, 2), (2, 1)):
        name = f"blocks.{layer}.attn.hook_z"

        def patch(x, hook):
            x = x.clone()
            x[:, :, head] = steered[hook.name][:, :, head]
            return x

        with torch.no_grad():
            plain, patched = (
                difference(model.run_with_hooks(batch.corrupt, fwd_hooks=hooks))
                for hooks in ([], [(name, patch)])
            )
        np.testing.assert_allclose(
            result.effects[:, result.nodes.index(f"a{layer}.h{head}")], (patched - plain).numpy(), atol=1e-9
        )


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_feature_shares_add_up_and_equal_small_differences(architecture):
    """Forward mode against the change of every activation over many small steps of the strength."""
    model, batch = random_model(), random_batch(2)
    push, steps = push_of(0.2), 48
    task = task_of(model, batch, difference, random_saes(architecture, 3, 12))
    dictionaries, found = task.dictionaries, feature_shares(task, push, steps=steps)
    change = found.steered - found.plain
    for site in dictionaries:
        assert np.abs(found.remainder(site)).max() < 2e-3 * max(1.0, np.abs(change).max())
    site = residual_site(2)
    dictionary, total = dictionaries[site], 0.0
    for step in range(steps):
        streams = {}
        for amount in (step, step + 0.5, step + 1):

            def push_on(x, hook):
                return x + amount / steps * push.vector

            def keep(x, hook):
                streams[amount] = x.detach().requires_grad_() if amount == step + 0.5 else x.detach()
                return streams[amount]

            with torch.enable_grad(), model.hooks(fwd_hooks=[(SITES[0], push_on), (site, keep)]):
                value = difference(model(batch.corrupt))
            if amount == step + 0.5:
                (grad,) = torch.autograd.grad(value.sum(), streams[amount])
        ends = [dictionary.encode(streams[amount]) for amount in (step, step + 1)]
        always = (ends[0] != 0) == (ends[1] != 0)  # a feature that switches has no derivative there
        total = total + ((ends[1] - ends[0]) * always * (grad @ dictionary.decoder.T)).sum(1)
    np.testing.assert_allclose(
        found.sites[site][:, :-1], total.numpy(), atol=2e-2 * np.abs(total.numpy()).max()
    )


def test_attribute_steers_features_components_and_mixed():
    model, saes, batch = random_model(), random_saes("topk", 3, 12), random_batch(3)
    push = push_of(0.3, "blocks.0.hook_resid_pre")
    for nodes in ("features", "components", "mixed"):
        result = emocircuits.attribute(
            model,
            batch.clean,
            batch.corrupt,
            difference,
            nodes=nodes,
            method="steering",
            push=push,
            saes=None if nodes == "components" else saes,
        )
        assert (
            np.isfinite(result.effects).all()
            and len(result.edge_table())
            and result.conventions["method"] == "steering"
        )
        if nodes == "features":
            shares = feature_shares(task_of(model, batch, difference, saes), push)
            place = dict(zip(result.nodes, result.effects.T, strict=True))
            for site, values in shares.sites.items():
                np.testing.assert_allclose(place[f"error/{site}"], values[:, -1], atol=1e-12)
            assert all(site in result.conventions["remainder"] for site in saes)
    default = emocircuits.attribute(
        model, batch.clean, batch.corrupt, difference, nodes="components", method="steering", edges=False
    )
    made = mean_difference(task_of(model, batch, difference), "blocks.0.hook_resid_pre")
    streams = [
        model.run_with_cache(tokens)[1]["blocks.0.hook_resid_pre"] for tokens in (batch.clean, batch.corrupt)
    ]
    torch.testing.assert_close(made.vector, (streams[0] - streams[1]).mean((0, 1)))
    assert default.nodes[0] == "direction/clean-corrupt"


def test_steering_refusals():
    model, saes, batch = random_model(), random_saes("topk", 2, 12), random_batch(2)
    with pytest.raises(UserError, match="no SAE at or after"):
        emocircuits.attribute(
            model,
            batch.clean,
            batch.corrupt,
            difference,
            saes=saes,
            method="steering",
            push=push_of(1, residual_site(2)),
        )
    with pytest.raises(UserError, match="do not differ"):
        emocircuits.attribute(
            model, batch.clean, batch.clean, difference, nodes="components", method="steering"
        )
    with pytest.raises(Failure, match="changed nothing"):
        nothing = Push("x", SITES[0], torch.zeros(12, dtype=torch.float64))
        steered_effects(steered_graph(task_of(model, batch, difference), nothing), nothing)
