"""Laws of component graphs: equalities in float64, on random models, next to other people's and
slower code.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import pairs_of, task_of
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.tools.analysis import attribution_patch

import emocircuits
from emocircuits.attribution.methods.gradients import graph_effects
from emocircuits.graphs.components import component_graph
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.record import Pass

GRADIENT_METHODS = ("attribution_patching", "integrated_gradients", "relp", "atp_star")


def components(model, batch, **options):
    return emocircuits.attribute(model, batch.clean, batch.corrupt, difference, nodes="components", **options)


def out_sums(result):
    sums = np.zeros_like(result.effects)
    np.add.at(sums.T, result.edges.sources, result.edges.effects.T)
    return sums


@pytest.mark.parametrize("method", ["attribution_patching", "integrated_gradients", "relp"])
def test_linear_model_nodes_and_edges_equal_exact_patching(method):
    model, batch = random_model(linear=True), random_batch()
    cheap, exact = components(model, batch, method=method), components(model, batch, method="exact")
    assert cheap.nodes == exact.nodes and cheap.slots == exact.slots and np.abs(exact.effects).max() > 0.1
    np.testing.assert_allclose(cheap.effects, exact.effects, atol=1e-9)
    np.testing.assert_allclose(cheap.edges.effects, exact.edges.effects, atol=1e-9)
    np.testing.assert_allclose(exact.edges.verified, exact.edges.effects.mean(0))


@pytest.mark.parametrize("method", ["attribution_patching", "integrated_gradients", "relp"])
def test_out_edges_add_up_to_the_node_effect(method):
    result = components(random_model(), random_batch(), method=method)
    np.testing.assert_allclose(out_sums(result), result.effects, atol=1e-12)


def test_atp_star_equals_attribution_patching_but_for_queries_and_keys():
    model, batch = random_model(), random_batch()
    plain, star = components(model, batch), components(model, batch, method="atp_star")
    into = np.array([plain.slots[target] for target in plain.edges.targets])
    same = np.array(["<q>" not in slot and "<k>" not in slot for slot in into])
    np.testing.assert_allclose(star.edges.effects[:, same], plain.edges.effects[:, same], atol=1e-12)
    assert np.abs(star.edges.effects[:, ~same] - plain.edges.effects[:, ~same]).max() > 1e-4


def test_atp_star_query_edges_are_the_exact_softmax_change():
    """Worked out from q, k and the pattern by hand: one layer without norm, so what a node writes is what a
    query reads.
    """
    config = HookedTransformerConfig(
        n_layers=1,
        d_model=10,
        n_ctx=8,
        d_head=4,
        n_heads=2,
        d_vocab=11,
        attn_only=True,
        normalization_type=None,
        dtype=torch.float64,
        device="cpu",
        seed=1,
    )
    model = HookedTransformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.7)
        parameter.requires_grad_(False)
    clean, corrupt = torch.randint(0, 11, (2, 3, 6))

    def metric(logits):
        return logits[:, -1, 3] - logits[:, -1, 5]

    found = emocircuits.attribute(model, clean, corrupt, metric, nodes="components", method="atp_star")
    table = found.edges.effects
    (_, clean_cache), (_, cache) = model.run_with_cache(clean), model.run_with_cache(corrupt)
    pattern = cache["blocks.0.attn.hook_pattern"].clone().requires_grad_()
    with (
        torch.enable_grad(),
        model.hooks(fwd_hooks=[("blocks.0.attn.hook_pattern", lambda value, hook: pattern)]),
    ):
        (rate,) = torch.autograd.grad(metric(model(corrupt)).sum(), pattern)
    change = clean_cache["hook_embed"] - cache["hook_embed"]
    attn, q, k = model.blocks[0].attn, cache["blocks.0.attn.hook_q"], cache["blocks.0.attn.hook_k"]
    for head in range(2):
        for kind, weight in (("q", attn.W_Q), ("k", attn.W_K)):
            moved = change @ weight[head]
            queries, keys = q[:, :, head] + moved * (kind == "q"), k[:, :, head] + moved * (kind == "k")
            scores = (queries @ keys.transpose(1, 2)) / attn.attn_scale
            scores = scores.masked_fill(torch.triu(torch.ones(6, 6, dtype=torch.bool), 1), -torch.inf)
            expected = ((scores.softmax(-1) - pattern.detach()[:, head]) * rate[:, head]).sum((1, 2))
            place = found.slots.index(f"a0.h{head}<{kind}>")
            column = [
                e
                for e, (s, t) in enumerate(zip(found.edges.sources, found.edges.targets, strict=True))
                if found.nodes[s] == "embed" and t == place
            ]
            np.testing.assert_allclose(table[:, column[0]], expected.numpy(), atol=1e-10)


@pytest.mark.parametrize("norm", [None, "LN", "RMS"])
def test_exact_effects_of_small_changes_are_the_gradient(norm):
    """The derivative of a real patch is its attribution: all values moved a millionth of the way from corrupt
    to clean.
    """
    model, chunk = random_model(norm=norm), random_batch(2)
    graph = component_graph(task_of(model, chunk, difference))
    pair = graph.both_sides(chunk)
    step = 1e-6
    near = Pass(
        {
            name: value + step * (pair.clean.values[name] - value)
            for name, value in pair.corrupt.values.items()
        },
        {},
        pair.corrupt.metric,
    )
    patcher = graph.patcher(replace(pair, clean=near))
    result = graph_effects(graph, {})
    nodes = patcher.nodes(range(len(graph.nodes))).numpy() / step
    np.testing.assert_allclose(nodes, result.effects, atol=1e-4 * np.abs(result.effects).max())
    sources, targets = graph.pairs
    edges = patcher.edges(list(zip(sources.tolist(), targets.tolist(), strict=True))).numpy() / step
    expected = np.zeros_like(edges)
    order = np.lexsort((targets, sources))
    expected[:, order] = result.edges.effects
    np.testing.assert_allclose(edges, expected, atol=1e-4 * np.abs(expected).max())


def test_node_scores_equal_transformer_lens():
    model, batch = random_model(), random_batch()
    ours = components(model, batch, edges=False)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    theirs = attribution_patch(model, batch.clean, batch.corrupt, lambda logits: difference(logits).mean())
    names: dict[str, float] = {}
    for node, score in theirs.node_scores.items():  # one node per position there
        name = {"embed": "embed", "attn_head_out": f"a{node.layer}.h{node.head}"}.get(
            node.kind, f"m{node.layer}"
        )
        names[name] = names.get(name, 0.0) + float(score)
    mean = dict(zip(ours.nodes, ours.effects.mean(0).tolist(), strict=True))
    assert set(mean) - set(names) == {"pos"}
    for name in names:
        assert mean[name] == pytest.approx(names[name], abs=1e-5), name


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_family_adds_up_and_small_patches_are_the_gradient(family, tmp_path):
    """Norms before, after and on both sides, shared keys, soft-capped scores, sliding windows, MLPs next to
    attention.
    """
    bridge = load_model(str(write_tiny_model(family, tmp_path)), dtype="float64", checks=False).bridge
    clean, corrupt = torch.randint(3, 200, (2, 2, 11))
    corrupt[:, 0] = clean[:, 0]

    def metric(logits):
        return logits[:, -1, 3].double() - logits[:, -1, 5].double()

    result = emocircuits.attribute(bridge, clean, corrupt, metric, nodes="components")
    # attention softmax is float32 in some families whatever the weights are
    np.testing.assert_allclose(out_sums(result), result.effects, atol=1e-6 * np.abs(result.effects).max())
    chunk = pairs_of(clean, corrupt)
    graph = component_graph(task_of(bridge, chunk, metric))
    pair = graph.both_sides(chunk)
    step = 1e-4
    near = Pass(
        {
            name: value + step * (pair.clean.values[name] - value)
            for name, value in pair.corrupt.values.items()
        },
        {},
        pair.corrupt.metric,
    )
    patcher = graph.patcher(replace(pair, clean=near))
    chosen = np.argsort(-np.abs(result.edges.effects.mean(0)))[:25]
    slots = [(int(result.edges.sources[e]), int(result.edges.targets[e])) for e in chosen]
    found, expected = patcher.edges(slots).numpy() / step, result.edges.effects[:, chosen]
    # a quotient of small float32 differences is coarse
    np.testing.assert_allclose(found, expected, atol=2e-2 * np.abs(expected).max())


CHANGES = {
    "nothing": {},
    "no norm": {"normalization_type": None},
    "one head": {"n_heads": 1, "d_head": 12},
    "bidirectional": {"attention_dir": "bidirectional"},
    "no MLP": {"attn_only": True},
    "shared keys": {"n_key_value_heads": 1},
    "split inputs": {"use_split_qkv_input": True, "use_hook_mlp_in": True},
    "parallel": {"parallel_attn_mlp": True},
    "gated": {"gated_mlp": True},
    "rotary": {"positional_embedding_type": "rotary", "rotary_dim": 4},
}
QUICK = {  # changes on which a method that patches for real is tried by default: seconds each
    "attribution_patching": set(CHANGES),
    "verified": {"nothing"},
    "exact": {"one head", "split inputs", "parallel", "rotary"},
}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        pytest.param(method, change, marks=() if change in quick else pytest.mark.slow)
        for method, quick in QUICK.items()
        for change in CHANGES
    ],
)
def test_any_given_model_one_at_a_time_equals_all_at_once(method, change):
    settings = {
        "n_layers": 2,
        "d_model": 12,
        "n_ctx": 10,
        "d_head": 4,
        "n_heads": 3,
        "d_mlp": 20,
        "d_vocab": 17,
        "act_fn": "gelu",
        "normalization_type": "LN",
        "dtype": torch.float64,
        "device": "cpu",
        "seed": 1,
        **CHANGES[change],
    }
    model = HookedTransformer(HookedTransformerConfig(**settings))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4)
        parameter.requires_grad_(False)
    batch = random_batch(8 if method == "attribution_patching" else 3)
    flags = {name: getattr(model.cfg, name) for name in ("use_split_qkv_input", "use_hook_mlp_in")}
    before = model(batch.corrupt)
    whole = components(model, batch, method=method, budget=200 if method == "verified" else None)
    singles = components(
        model, batch, method=method, budget=200 if method == "verified" else None, max_tokens=1
    )
    np.testing.assert_allclose(whole.effects, singles.effects, atol=1e-9)
    np.testing.assert_allclose(whole.edges.effects, singles.edges.effects, atol=1e-9)
    assert torch.equal(model(batch.corrupt), before) and flags == {
        name: getattr(model.cfg, name) for name in flags
    }
    assert whole.passes == singles.passes


def test_mixed_graph_nodes_equal_both_others_and_nothing_passes_a_site():
    model, saes, batch = random_model(), random_saes("topk", 2, 12), random_batch()
    mixed = emocircuits.attribute(
        model, batch.clean, batch.corrupt, difference, nodes="mixed", saes=saes, max_features=500
    )
    place = dict(zip(mixed.nodes, mixed.effects.T, strict=True))
    alone = components(model, batch)
    for node, effect in zip(alone.nodes, alone.effects.T, strict=True):
        np.testing.assert_allclose(place[node], effect, atol=1e-12, err_msg=node)
    features = emocircuits.attribute(model, batch.clean, batch.corrupt, difference, saes=saes, edges=False)
    for node, effect in zip(features.nodes, features.effects.T, strict=True):
        np.testing.assert_allclose(place[node], effect, atol=1e-12, err_msg=node)
    np.testing.assert_allclose(
        out_sums(mixed)[:, [n.startswith("feature") for n in mixed.nodes]],
        mixed.effects[:, [n.startswith("feature") for n in mixed.nodes]],
        atol=1e-9,
    )
    table = mixed.edge_table()
    assert not ((table.source == "embed") & table.target.str.startswith("a1")).any()
    assert ((table.source == "embed") & table.target.str.startswith("a0")).any()
