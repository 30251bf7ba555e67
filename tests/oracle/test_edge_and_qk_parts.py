"""Edges by head, and scores by pairs of features: parts that add up, by hand and on every family."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import feature_edges, task_of
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.attribution.edge_parts import edge_parts
from emocircuits.attribution.qk_attribution import qk_attribution
from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.sae.dictionary import open_dictionaries

SITES = [f"blocks.{layer}.hook_resid_post" for layer in range(3)]
NODES = (
    [f"feature/{SITES[0]}/{i}" for i in range(24)]
    + [f"error/{SITES[0]}"]
    + [f"feature/{SITES[1]}/{i}" for i in range(24)]
    + [f"error/{SITES[1]}"]
)


def some_edges(model, saes, batch, steps=0, metric=difference):
    links = feature_edges(task_of(model, batch, metric, saes), NODES, steps)
    strong = np.argsort(-np.abs(links.effects.mean(0)))[:40]
    names = (*NODES, "logits")
    return {(names[links.sources[e]], names[links.targets[e]]): links.effects[:, e].mean() for e in strong}


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("steps", [0, 2])
def test_parts_add_up_to_the_edge(linear, steps):
    model, saes, batch = random_model(linear=linear), random_saes("topk", 2, 12), random_batch(3)
    edges = {
        pair: value
        for pair, value in some_edges(model, saes, batch, steps).items()
        if not (steps and pair[1] == "logits")
    }
    table = edge_parts(task_of(model, batch, difference, saes), list(edges), steps=steps)
    sums = table.groupby(["source", "target"]).effect.sum()
    assert max(abs(sums[pair] - value) for pair, value in edges.items()) < 1e-9 and len(sums) == len(edges)
    parts = set(table.part)
    assert {"direct", "a1.h0<q>", "a1.h2<k>", "a1.h1<v>"} <= parts and ("m1" in parts) != linear
    if linear:  # attention is uniform: nothing runs through queries and keys
        assert table.effect[table.part.str.contains("<q>|<k>")].abs().max() == 0


def test_on_a_linear_model_a_heads_part_is_the_edge_without_the_other_heads():
    """Block 1 with all heads but one silenced, minus the direct part: what that head alone carries."""
    model, saes, batch = random_model(linear=True), random_saes("standard", 2, 12), random_batch(3)
    edges = [pair for pair in some_edges(model, saes, batch) if pair[1] != "logits"][:10]
    table = (
        edge_parts(task_of(model, batch, difference, saes), edges)
        .set_index(["source", "target", "part"])
        .effect
    )
    deltas, dictionaries = {}, open_dictionaries(saes)
    up, down = dictionaries[SITES[0]], dictionaries[SITES[1]]
    clean, corrupt = (model.run_with_cache(tokens)[1] for tokens in (batch.clean, batch.corrupt))
    value = corrupt[SITES[1]].clone().requires_grad_()
    with torch.enable_grad(), model.hooks(fwd_hooks=[(SITES[1], lambda x, hook: value)]):
        (grad,) = torch.autograd.grad(difference(model(batch.corrupt)).sum(), value)
    ov = torch.einsum("hde,hef->hdf", model.W_V[1], model.W_O[1])
    mix = torch.tril(torch.ones(7, 7, dtype=torch.float64)) / torch.arange(1, 8)[:, None]
    f = {
        side: (up.encode(one[SITES[0]]), down.encode(one[SITES[1]]), down.preactivation(one[SITES[1]]))
        for side, one in (("clean", clean), ("corrupt", corrupt))
    }
    both = [f[side][1] != 0 for side in ("clean", "corrupt")]
    secant = ((f["clean"][1] - f["corrupt"][1]) / (f["clean"][2] - f["corrupt"][2])).clamp(0, 3)
    slope = torch.where(both[0] & both[1], 1.0, torch.where(both[0] | both[1], secant, 0.0))
    weight = slope * (grad @ down.decoder.T)
    for source, target in edges:
        if source.startswith("error"):
            continue
        i = int(source.rsplit("/", 1)[1])
        deltas = (f["clean"][0] - f["corrupt"][0])[..., i, None] * up.decoder[i]
        seed = grad - weight @ down.encoder.T
        if target.startswith("feature"):
            j = int(target.rsplit("/", 1)[1])
            seed = weight[..., j, None] * down.encoder[:, j]
        assert table[source, target, "direct"] == pytest.approx(
            float((seed * deltas).sum((1, 2)).mean()), abs=1e-10
        )
        for head in range(3):
            moved = torch.einsum("qk,pkd,df->pqf", mix, deltas, ov[head])
            assert table[source, target, f"a1.h{head}<v>"] == pytest.approx(
                float((seed * moved).sum((1, 2)).mean()), abs=1e-10
            )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"normalization_type": None},
        {"n_heads": 4, "n_key_value_heads": 2},
        {"attention_dir": "bidirectional"},
        {"positional_embedding_type": "rotary", "rotary_dim": 4},
        {"n_heads": 1, "d_head": 12},
    ],
)
@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_pairs_add_up_to_the_score(change, architecture):
    model = HookedTransformer(
        HookedTransformerConfig(
            **{
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
                **change,
            }
        )
    )
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4)
        parameter.requires_grad_(False)
    tokens, saes = random_batch(3).clean, random_saes(architecture, 1, 12)
    scores = model.run_with_cache(tokens)[1]["blocks.1.attn.hook_attn_scores"]
    before = model(tokens)
    for head, query, key in ((0, -1, 2), (model.cfg.n_heads - 1, 5, 5), (0, 4, 0)):
        table = qk_attribution(model, saes, tokens, 1, head, query, key)
        sums = table.groupby("prompt").effect.sum().to_numpy()
        np.testing.assert_allclose(sums, scores[:, head, query, key].numpy(), atol=1e-9)
        assert {"bias", f"error/{SITES[0]}/p{query % 7}"} <= set(
            table["query"]
        ) and f"error/{SITES[0]}/p{key}" in set(table.key)
    assert torch.equal(model(tokens), before) and not any(
        point.fwd_hooks for point in model.hook_dict.values()
    )


def test_a_pair_is_what_its_features_write_through_the_weights():
    """No norm, no rotation: f_i d_i W_Q · W_K d_j f_j / sqrt(d_head), worked out by hand."""
    model, saes, tokens = random_model(norm=None), random_saes("topk", 1, 12), random_batch(2).clean
    dictionary = open_dictionaries(saes)[SITES[0]]
    features = dictionary.encode(model.run_with_cache(tokens)[1][SITES[0]])
    table = qk_attribution(model, saes, tokens, 1, 2, 6, 3)
    checked = 0
    for row in table[
        table["query"].str.startswith("feature") & table.key.str.startswith("feature")
    ].itertuples():
        i, j = (int(name.split("/")[2]) for name in (row.query, row.key))
        q = features[row.prompt, 6, i] * dictionary.decoder[i] @ model.W_Q[1, 2]
        k = features[row.prompt, 3, j] * dictionary.decoder[j] @ model.W_K[1, 2]
        assert row.effect == pytest.approx(float(q @ k) / 2, abs=1e-12)
        checked += 1
    assert checked > 30


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_family(family, tmp_path):
    """Rotations, shared keys, norms of queries and keys, soft caps; some families compute those in
    float32.
    """
    bridge = load_model(str(write_tiny_model(family, tmp_path)), dtype="float64", checks=False).bridge
    saes, tokens, seen = random_saes("topk", 2, bridge.cfg.d_model), torch.randint(3, 200, (2, 9)), {}
    with (
        torch.no_grad(),
        bridge.hooks(
            fwd_hooks=[("blocks.1.attn.hook_attn_scores", lambda x, hook: seen.__setitem__("s", x))]
        ),
    ):
        bridge(tokens)
    sums = qk_attribution(bridge, saes, tokens, 1, 3, -1, 5).groupby("prompt").effect.sum().to_numpy()
    cap = 50.0 if family == "gemma2" else None
    np.testing.assert_allclose(
        sums if cap is None else cap * np.tanh(sums / cap), seen["s"][:, 3, -1, 5].numpy(), atol=2e-6
    )
    batch = random_batch(2)
    batch = type(batch)(tokens, tokens.flip(0), torch.arange(2))

    def metric(logits):
        return logits[:, -1, 3].double() - logits[:, -1, 5].double()

    edges = some_edges(bridge, saes, batch, metric=metric)
    parts = (
        edge_parts(task_of(bridge, batch, metric, saes), list(edges))
        .groupby(["source", "target"])
        .effect.sum()
    )
    scale = max(map(abs, edges.values()))
    assert max(abs(parts[pair] - value) for pair, value in edges.items()) < 2e-6 * max(1.0, scale)


def test_refusals():
    model, saes, batch = random_model(), random_saes("topk", 2, 12), random_batch(2)
    for text, arguments in (
        ("block 2 reads", (2, 0, 1, 0)),
        ("layer 7", (7, 0, 1, 0)),
        ("head 3", (1, 3, 1, 0)),
        ("query position 9", (1, 0, 9, 0)),
        ("does not look at position 5", (1, 0, 2, 5)),
    ):
        if text.startswith("block 2"):
            saes_here = {SITES[0]: saes[SITES[0]]}
        else:
            saes_here = saes
        with pytest.raises(UserError, match=text):
            qk_attribution(model, saes_here, batch.clean, *arguments)
    with pytest.raises(UserError, match="adjacent sites"):
        edge_parts(task_of(model, batch, difference, saes), [(NODES[0], "logits")])
    with pytest.raises(UserError, match="no edge"):
        edge_parts(task_of(model, batch, difference, saes), [])
    with pytest.raises(UserError, match="steps=0"):
        edge_parts(task_of(model, batch, difference, saes), [(NODES[-1], "logits")], steps=3)
