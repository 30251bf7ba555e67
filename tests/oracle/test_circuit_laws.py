"""Laws of circuits that run for real: equalities in float64, on random, linear and hand-set models, and on
every family.
"""

import itertools

import numpy as np
import pytest
import torch
from planted.hand_set import ALL, metric
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import pairs_of, task_of
from transformer_lens import HookedTransformer, HookedTransformerConfig

import emocircuits
from emocircuits.errors import UserError
from emocircuits.graphs.components import component_graph
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model

ABLATIONS = ("resample", "mean", "zero")


def graph_of(model, batch, metric, saes=None, **options):
    """All components, with all features of the SAEs between them."""
    task = task_of(model, batch, metric, saes, **options)
    features = [f"feature/{site}/{number}" for site, sae in task.saes.items() for number in range(sae.d_sae)]
    return component_graph(task, features)


def nothing_and_everything(graph):
    rows = np.zeros((2, len(graph.items)), dtype=bool)
    rows[1] = True
    return rows


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("norm", [None, "LN", "RMS"])
def test_all_edges_are_the_model_and_no_edge_is_the_baseline(norm, mixed):
    model, batch = random_model(norm=norm), random_batch()
    graph = graph_of(model, batch, difference, random_saes("jumprelu", 2, 12) if mixed else None)
    for ablation in ABLATIONS:
        empty, full = graph.runner().run(nothing_and_everything(graph), ablation=ablation)
        np.testing.assert_allclose(full, difference(model(batch.clean)), atol=1e-10)
        if ablation == "resample":
            np.testing.assert_allclose(empty, difference(model(batch.corrupt)), atol=1e-10)
        else:
            assert np.ptp(empty) < 1e-10  # the same for all prompts


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"normalization_type": None},
        {"n_heads": 1, "d_head": 12},
        {"attention_dir": "bidirectional"},
        {"attn_only": True},
        {"n_heads": 4, "n_key_value_heads": 2},
        {"use_split_qkv_input": True, "use_hook_mlp_in": True},
        {"parallel_attn_mlp": True},
        {"gated_mlp": True},
        {"positional_embedding_type": "rotary", "rotary_dim": 4},
    ],
)
def test_one_edge_less_is_the_exact_effect_of_that_edge(change, mixed):
    """Everything but u -> v: only v misses u's change, which is what a real patch of the edge in the clean
    run does.
    """
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
    batch = random_batch(3)
    saes = random_saes("topk", 1, 12) if mixed else None
    graph, before = graph_of(model, batch, difference, saes), model(batch.corrupt)
    chosen = np.random.default_rng(0).permutation(len(graph.items))[:25]
    rows = np.ones((len(chosen), len(graph.items)), dtype=bool)
    rows[np.arange(len(chosen)), chosen] = False
    lost = difference(model(batch.clean)).numpy() - graph.runner().run(rows)
    edges = [(int(graph.pairs[0][edge]), int(graph.pairs[1][edge])) for edge in chosen]
    exact = graph.patcher(graph.both_sides(batch)).edges(edges, "clean").numpy()
    np.testing.assert_allclose(lost.T, exact, atol=1e-10)
    assert np.abs(exact).max() > 1e-4 and torch.equal(model(batch.corrupt), before)
    one_at_a_time = graph_of(model, batch, difference, saes, max_tokens=1).runner().run(rows[:4])
    np.testing.assert_allclose(difference(model(batch.clean)).numpy() - one_at_a_time, lost[:4], atol=1e-10)


def test_one_edge_between_all_before_and_all_after_is_its_exact_effect_in_the_corrupt_run():
    """All edges up to u give u its clean change, u -> v hands it to v alone, all edges from v on carry it to
    the logits.
    """
    model, batch = random_model(), random_batch(3)
    graph = graph_of(model, batch, difference)
    feeds, (sources, targets) = graph.feeds(), graph.pairs
    patcher, rows, edges = graph.patcher(graph.both_sides(batch)), [], []
    for edge in np.random.default_rng(1).permutation(len(sources))[:20]:
        after = set(np.flatnonzero(feeds[targets[edge]]).tolist())  # nodes that v's change reaches
        for slot in range(len(graph.slots)):
            seen = {int(node) for node in sources[targets == slot]}
            if seen & after:
                after |= set(np.flatnonzero(feeds[slot]).tolist())
        before = sources < sources[edge]
        inside = (
            np.array(
                [bool(feeds[target].any()) and not feeds[target][list(after)].any() for target in targets]
            )
            & before
        )
        onward = np.isin(sources, list(after))
        row = inside | onward
        row[edge] = True
        rows.append(row)
        edges.append((int(sources[edge]), int(targets[edge])))
    found = graph.runner().run(np.stack(rows)) - difference(model(batch.corrupt)).numpy()
    np.testing.assert_allclose(found.T, patcher.edges(edges).numpy(), atol=1e-10)


def test_in_a_linear_model_the_paths_add_up():
    """Uniform attention, no MLP, no norm: each path through value slots is a circuit, and they sum to the
    whole change.
    """
    model, batch = random_model(linear=True), random_batch()
    graph = graph_of(model, batch, difference)
    names, paths = graph.items, []
    for heads in itertools.product((None, 0, 1, 2), repeat=3):
        stops = ["embed", *(f"a{layer}.h{head}" for layer, head in enumerate(heads) if head is not None)]
        ends = [*(f"{stop}<v>" for stop in stops[1:]), "logits"]
        paths.append(list(zip(stops, ends, strict=True)))
        assert all(f"{source} -> {slot}" in names for source, slot in paths[-1])
    rows = np.stack([graph.choice(path) for path in paths])
    corrupt = difference(model(batch.corrupt)).numpy()
    effects = graph.runner().run(rows) - corrupt
    np.testing.assert_allclose(effects.sum(0), difference(model(batch.clean)).numpy() - corrupt, atol=1e-9)
    # so circuits without a common path add up: through the heads of the first block alone, and past all of
    # them
    first, rest = rows[[16, 32, 48]], rows[[0]]
    both = graph.runner().run(np.stack([first.any(0), (first.any(0)) | rest[0], first[:2].any(0)])) - corrupt
    np.testing.assert_allclose(both[0], effects[[16, 32, 48]].sum(0), atol=1e-9)
    np.testing.assert_allclose(both[1], effects[[0, 16, 32, 48]].sum(0), atol=1e-9)
    np.testing.assert_allclose(both[2], effects[[16, 32]].sum(0), atol=1e-9)


def ablated_by_hand(model, batch, hook, head, value):
    def edit(x, hook):
        x = x.clone()
        if head is None:
            x[:] = value
        else:
            x[:, :, head] = value if value.ndim < 3 else value[:, :, head]
        return x

    with model.hooks(fwd_hooks=[(hook, edit)]):
        return model(batch.clean)


@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_node_without_its_edges_is_ablated_as_anyone_would(family, tmp_path):
    """All edges but those that leave a head or an MLP: the same as a hook that sets its output to the
    baseline. On every family.
    """
    bridge = load_model(
        str(write_tiny_model(family, tmp_path, TinyShape(n_layers=2))), dtype="float64", checks=False
    ).bridge
    clean, corrupt = torch.randint(3, 200, (2, 2, 9))
    batch = pairs_of(clean, corrupt)

    def measure(logits):
        return logits[:, -1, 3].double() - logits[:, -1, 5].double()

    graph = graph_of(bridge, batch, measure)
    names, seen = graph.items, {}
    hooks = {
        "a0.h1": ("blocks.0.attn.hook_z", 1),
        "a1.h2": ("blocks.1.attn.hook_z", 2),
        "m0": ("blocks.0.hook_mlp_out", None),
    }
    with (
        torch.no_grad(),
        bridge.hooks(
            fwd_hooks=[(hook, lambda x, hook: seen.__setitem__(hook.name, x)) for hook, _ in hooks.values()]
        ),
    ):
        bridge(corrupt)
    seen = {
        hook: next(
            value
            for name, value in seen.items()
            if name.split(".")[1] == hook.split(".")[1] and value.ndim == (4 if "hook_z" in hook else 3)
        )
        for hook, _ in hooks.values()
    }
    rows = np.stack(
        [[not name.startswith(f"{node} ->") for name in names] for node in hooks] + [[True] * len(names)]
    )
    for ablation in ABLATIONS:
        found = graph.runner().run(rows, ablation=ablation)
        for row, (hook, head) in zip(found, hooks.values(), strict=False):
            value = seen[hook]
            value = {
                "resample": value,
                "mean": value.mean((0, 1)) if head is None else value.mean((0, 1))[head],
                "zero": torch.zeros(value.shape[-1], dtype=value.dtype),
            }[ablation]
            with torch.no_grad():
                expected = measure(ablated_by_hand(bridge, batch, hook, head, value))
            np.testing.assert_allclose(row, expected, atol=2e-6 * max(1.0, float(expected.abs().max())))
        with torch.no_grad():
            np.testing.assert_allclose(
                found[-1], measure(bridge(clean)), atol=2e-6 * max(1.0, float(np.abs(found).max()))
            )


@pytest.mark.parametrize("name", ALL)
def test_the_true_edges_are_the_whole_behaviour_and_none_can_go(name):
    planted = ALL[name]()
    graph = graph_of(planted.model, planted.batch, metric)
    truth = graph.choice(planted.truth)
    rows = np.repeat(truth[None], truth.sum() + 1, axis=0)
    rows[np.arange(truth.sum()), np.flatnonzero(truth)] = False
    values = graph.runner().run(rows).mean(1)
    empty, full = graph.runner().run(nothing_and_everything(graph)).mean(1)
    shares = (values - empty) / (full - empty)
    assert shares[-1] == pytest.approx(1.0, abs=1e-9)
    if name != "cancelling":
        assert (shares[:-1] < 1 - 1e-6).all()
    else:  # without the head that subtracts there is more than everything
        assert (np.abs(shares[:-1] - 1) > 0.9).all()


@pytest.mark.parametrize("name", ALL)
def test_a_circuit_from_the_verified_search_is_the_true_one(name):
    planted = ALL[name]()
    given = planted.model, planted.batch.clean, planted.batch.corrupt, metric
    result = emocircuits.attribute(*given, nodes="components", method="verified")
    circuit = emocircuits.CircuitGraph.from_attribution(result, edge_threshold=0.02)
    assert {(edge.source, edge.target) for edge in circuit.edges if "<" not in edge.source} == planted.truth
    assert float(circuit.faithfulness(*given)) == pytest.approx(1.0, abs=1e-9)
    checked = circuit.verify(*given)
    assert all(edge.verified is not None and abs(edge.verified) > 0.5 for edge in checked.edges)
    assert all(abs(edge.verified - edge.weight) < 1e-9 for edge in checked.edges if "<" not in edge.source)


def test_prompts_without_a_partner_are_for_ablations_that_read_none():
    planted = next(iter(ALL.values()))()
    given = planted.model, planted.batch.clean, planted.batch.corrupt, metric
    circuit = emocircuits.CircuitGraph.from_attribution(
        emocircuits.attribute(*given, nodes="components", method="verified"), edge_threshold=0.02
    )
    alone = planted.model, planted.batch.clean, None, metric
    nothing = emocircuits.Ablation(
        "nothing", "zero again", lambda other, mean: 0 * other[:1, :1], needs_other=False
    )
    with emocircuits.ABLATIONS.temporarily(nothing):
        found, zero = (circuit.faithfulness(*alone, ablation=name) for name in ("nothing", "zero"))
    assert float(found) == float(zero)
    with pytest.raises(UserError, match="no corrupt prompts for mean ablation"):
        circuit.faithfulness(*alone, ablation="mean")
