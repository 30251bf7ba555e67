"""Selection, stability, agreement, areas, and the metric of circuits at its two ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from circuits.circuit_world import systematic
from planted.paper_model import difference, random_model, random_saes
from planted.tasks import task_of

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution.attribute import attribute
from emocircuits.attribution.methods.exact import patched_nodes
from emocircuits.circuits.choose import with_edges
from emocircuits.circuits.compare import compare_effects, nodes_to_verify, patch_agreement
from emocircuits.circuits.faithfulness import EVERYTHING, MIB_SHARES, NodeSet, areas, circuit_metric
from emocircuits.circuits.from_attribution import circuit_of_nodes, select_nodes
from emocircuits.circuits.stability import stability
from emocircuits.errors import UserError
from emocircuits.passes.prompt_pairs import PromptPairs


@pytest.fixture(scope="module")
def world():
    """The task, effects with edges among twelve nodes, six of them patched for real, and the circuit."""
    torch.manual_seed(0)
    model, saes = random_model(), random_saes("topk", 3, 12)
    pairs = [systematic(6, 7), systematic(4, 5, start=6)]
    task = task_of(model, pairs, difference, saes, behaviour="b")
    effects = attribute(task, edges=False)
    nodes = select_nodes(effects, threshold=0.0, max_nodes=12)
    result = with_edges(effects, task, nodes)
    verified = np.where(np.isin(result.nodes, nodes[:6]), result.verified, np.nan)
    result = replace(result, verified=verified)
    return task, result, circuit_of_nodes(result, nodes)


def test_nodes_of_a_circuit_are_really_patched(world):
    task, result, circuit = world
    nodes = [node.id for node in circuit.nodes if node.verified is not None and node.kind != "target"]
    exact = patched_nodes(task, nodes)
    assert [circuit.node(node).verified for node in nodes] == pytest.approx(exact.effects.mean(0).tolist())


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_everything_kept_is_the_model_and_nothing_kept_is_the_baseline(world, ablation):
    task, find = replace(world[0], max_tokens=30), world[0].prompts.groups
    full, empty = circuit_metric(task, [EVERYTHING, ()], ablation=ablation)
    clean, corrupt = (
        np.concatenate([difference(task.model(getattr(group, side))).numpy() for group in find])
        for side in ("clean", "corrupt")
    )
    np.testing.assert_allclose(full, clean, atol=1e-9)
    if ablation == "resample":
        np.testing.assert_allclose(empty, corrupt, atol=1e-9)
    else:
        assert np.ptp(empty[:6]) < 1e-9  # one stream for all prompts and positions
        assert not np.allclose(empty, corrupt)


def test_batching_of_circuits_and_prompts_changes_nothing(world):
    task, result, _ = world
    circuits = [
        result.nodes[:5],
        result.nodes[3:40],
        NodeSet(frozenset(result.nodes[:9]), complement=True),
        EVERYTHING,
        (),
    ]
    whole = circuit_metric(task, circuits)
    for max_tokens in (1, 60):
        np.testing.assert_allclose(
            circuit_metric(replace(task, max_tokens=max_tokens), circuits), whole, atol=1e-10
        )
    for circuit, expected in zip(circuits, whole, strict=True):
        for group in task.prompts.groups:
            single = circuit_metric(task.on(PromptPairs((group,))), [circuit])[0]
            np.testing.assert_allclose(single, expected[group.index.numpy()], atol=1e-10)


def test_areas_of_a_perfect_an_empty_and_a_straight_circuit():
    """Trapezoid over share 0.001 ... 1: a perfect curve covers 0.999; F = share covers (1 - 0.001^2) / 2."""
    ones, share = np.ones(10), np.array(MIB_SHARES)
    assert areas(ones, ones) == pytest.approx({"cpr": 0.999, "cmd": 0.0, "log_cpr": 1.0, "log_cmd": 0.0})
    assert areas(0 * ones, 0 * ones) == pytest.approx(
        {"cpr": 0.0, "cmd": 0.999, "log_cpr": 0.0, "log_cmd": 1.0}
    )
    assert areas(share, share)["cpr"] == pytest.approx((1 - 1e-6) / 2)
    assert areas(2 * ones, 2 * ones)["cmd"] == pytest.approx(0.999)


def test_circuit_survives_json_and_holds_verified_effects(world, tmp_path):
    circuit = world[2]
    circuit.save(tmp_path / "c.json")
    assert CircuitGraph.load(tmp_path / "c.json") == circuit
    nodes = [node for node in circuit.nodes if node.kind != "target"]
    assert [node.verified is not None for node in nodes] == [True] * 6 + [False] * 6
    assert all(
        node.ci_low <= node.effect <= node.ci_high and node.ci_low * node.ci_high > 0 for node in nodes
    )


def test_result_with_edges_survives_its_file(world, tmp_path):
    result = world[1]
    result.save(tmp_path / "r.h5")
    loaded = AttributionResult.load(tmp_path / "r.h5")
    tables = loaded.edge_table(), result.edge_table()
    assert len(tables[0]) == len(tables[1]) > 0
    for name in ("source", "target"):
        assert list(tables[0][name]) == list(tables[1][name])
    np.testing.assert_allclose(tables[0]["effect"], tables[1]["effect"], rtol=1e-5)
    np.testing.assert_allclose(loaded.verified, result.verified, rtol=1e-5)


def test_selection_needs_an_interval_off_zero():
    """Node a: 1 on each prompt. b: mean 2, but of either sign. c: small."""
    effects = np.array([[1.0, 9.0, 0.01], [1.0, -5.0, 0.01], [1.0, 9.0, 0.01], [1.0, -5.0, 0.01]])
    nodes = tuple(f"feature/blocks.0.hook_resid_post/{i}" for i in range(3))
    result = AttributionResult("b", nodes, effects, np.full(4, 2.0), np.zeros(4), {}, 3)
    assert select_nodes(result, threshold=0.1) == nodes[:1]
    assert select_nodes(result, threshold=0.0) == (nodes[0], nodes[2])
    with pytest.raises(UserError, match="strongest mean effect is 1"):
        select_nodes(result, threshold=2.0)


def test_stability_of_certain_and_of_exchangeable_effects():
    """Equal prompts: every resample agrees. Independent noise in 200 nodes: hardly any does."""
    certain = np.tile(np.arange(50.0), (12, 1))
    perfect = stability(certain, 10)
    assert (perfect.jaccard, perfect.pairwise_jaccard) == (
        1.0,
        1.0,
    ) and perfect.rank_correlation == pytest.approx(1.0)
    noise = stability(np.random.default_rng(0).standard_normal((12, 200)), 10)
    assert noise.jaccard < 0.6 and noise.pairwise_jaccard < 0.5
    assert stability(certain, 10, seed=1) == stability(certain, 10, seed=1)
    with pytest.raises(UserError, match="at least 2 prompts"):
        stability(certain[:1], 10)


def test_agreement_shows_scale_and_sign():
    """exact = 2 * attributed with one strong sign flipped among four: x.y / x.x = 2 (1 + 4 + 9 - 16) / 30."""
    attributed = np.array([1.0, 2.0, 3.0, 4.0])
    same = compare_effects(attributed, 2 * attributed, scale=10.0)
    assert (same.pearson, same.slope, same.sign_agreement, same.strong_nodes) == (
        pytest.approx(1),
        pytest.approx(2),
        1.0,
        4,
    )
    flipped = compare_effects(attributed, np.array([2.0, 4.0, 6.0, -8.0]), scale=300.0)
    assert flipped.slope == pytest.approx(-4 / 30)
    assert flipped.sign_agreement == pytest.approx(2 / 3) and flipped.strong_nodes == 3
    with pytest.raises(UserError, match="at least two nodes"):
        compare_effects(np.ones(1), np.ones(1), scale=1.0)


def test_nodes_to_verify_are_the_strongest_and_some_others(world):
    result = attribute(world[0], edges=False)
    chosen = nodes_to_verify(result, 20, random_share=0.25)
    order = [result.nodes[i] for i in np.argsort(-np.abs(result.effects.mean(0)), kind="stable")]
    assert list(chosen[:15]) == order[:15] and len(set(chosen)) == 20
    assert patch_agreement(world[1]).nodes == 6
