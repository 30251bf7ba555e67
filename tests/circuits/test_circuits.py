"""Pruning, stability, agreement, random circuits, areas, and faithfulness at its two ends."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.attribution import PairBatch, attribution_patching
from emocircuits.circuits import (
    EVERYTHING,
    NodeSet,
    agreement,
    circuit_metric,
    compare_effects,
    find_circuit,
    nodes_to_verify,
    prune,
    select_nodes,
    stability,
)
from emocircuits.circuits.faithfulness import MIB_SHARES, areas
from emocircuits.errors import UserError


def systematic(n: int, length: int, start: int = 0) -> PairBatch:
    """Random prompts in which two words differ between the sides in the same way, so that effects have a
    sign.
    """
    clean = random_batch(n, length).clean
    corrupt = clean.clone()
    clean[:, 1], clean[:, 3], corrupt[:, 1], corrupt[:, 3] = 1, 4, 2, 6
    clean[:, -1] = corrupt[:, -1] = 9
    return PairBatch(clean, corrupt, torch.arange(start, start + n))


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    model, saes = random_model(), random_saes("topk", 3, 12)
    find, score = [systematic(6, 7), systematic(4, 5, start=6)], [systematic(5, 7)]
    result, circuit = find_circuit(
        model, saes, find, difference, behaviour="b", threshold=0.0, max_nodes=12, verify_nodes=6
    )
    return model, saes, find, score, result, circuit


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_everything_kept_is_the_model_and_nothing_kept_is_the_baseline(world, ablation):
    model, saes, find, _, _, _ = world
    full, empty = circuit_metric(
        model, saes, find, difference, [EVERYTHING, ()], ablation=ablation, max_tokens=30
    )
    clean = np.concatenate([difference(model(batch.clean)).numpy() for batch in find])
    corrupt = np.concatenate([difference(model(batch.corrupt)).numpy() for batch in find])
    np.testing.assert_allclose(full, clean, atol=1e-9)
    if ablation == "resample":
        np.testing.assert_allclose(empty, corrupt, atol=1e-9)
    else:
        assert np.ptp(empty[:6]) < 1e-9  # one stream for all prompts and positions
        assert not np.allclose(empty, corrupt)


def test_batching_of_circuits_and_prompts_changes_nothing(world):
    model, saes, find, _, result, _ = world
    circuits = [
        result.nodes[:5],
        result.nodes[3:40],
        NodeSet(frozenset(result.nodes[:9]), complement=True),
        EVERYTHING,
        (),
    ]
    whole = circuit_metric(model, saes, find, difference, circuits)
    for max_tokens in (1, 60):
        found = circuit_metric(model, saes, find, difference, circuits, max_tokens=max_tokens)
        np.testing.assert_allclose(found, whole, atol=1e-10)
    singles = [
        circuit_metric(model, saes, [batch], difference, [circuit])[0]
        for circuit in circuits
        for batch in find
    ]
    np.testing.assert_allclose(np.concatenate(singles), whole.ravel(), atol=1e-10)


def test_areas_of_a_perfect_an_empty_and_a_straight_circuit():
    """Trapezoid over share 0.001 ... 1: a perfect curve covers 0.999; F = share covers (1 - 0.001^2) / 2."""
    ones, share = np.ones(10), np.array(MIB_SHARES)
    assert areas(ones, ones) == pytest.approx({"cpr": 0.999, "cmd": 0.0, "log_cpr": 1.0, "log_cmd": 0.0})
    assert areas(0 * ones, 0 * ones) == pytest.approx(
        {"cpr": 0.0, "cmd": 0.999, "log_cpr": 0.0, "log_cmd": 1.0}
    )
    assert areas(share, share)["cpr"] == pytest.approx((1 - 1e-6) / 2)
    assert areas(2 * ones, 2 * ones)["cmd"] == pytest.approx(0.999)


def test_pruning_is_the_identity_at_zero_and_monotone(world):
    circuit = world[5]
    assert prune(circuit) == circuit
    strengths = sorted(abs(node.effect) for node in circuit.nodes if node.kind != "target")
    looser, stricter = (prune(circuit, node_threshold=strengths[k], edge_threshold=0.001 * k) for k in (3, 6))
    assert (
        {node.id for node in stricter.nodes}
        < {node.id for node in looser.nodes}
        < {node.id for node in circuit.nodes}
    )
    assert {(e.source, e.target) for e in stricter.edges} <= {(e.source, e.target) for e in looser.edges}
    joined = prune(circuit, edge_threshold=0.01, connected=True)
    sources = {edge.source for edge in joined.edges}
    assert all(node.id in sources for node in joined.nodes if node.kind != "target")
    with pytest.raises(UserError, match="empty after pruning"):
        prune(circuit, node_threshold=1e9)


def test_circuit_survives_json_and_holds_verified_effects(world, tmp_path):
    circuit = world[5]
    circuit.save(tmp_path / "c.json")
    assert CircuitGraph.load(tmp_path / "c.json") == circuit
    nodes = [node for node in circuit.nodes if node.kind != "target"]
    assert [node.verified is not None for node in nodes] == [True] * 6 + [False] * 6
    assert all(
        node.ci_low <= node.effect <= node.ci_high and node.ci_low * node.ci_high > 0 for node in nodes
    )


def test_result_with_edges_survives_its_file(world, tmp_path):
    result = world[4]
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
    result = attribution_patching(*world[:3], difference)
    chosen = nodes_to_verify(result, 20, random_share=0.25)
    order = [result.nodes[i] for i in np.argsort(-np.abs(result.effects.mean(0)), kind="stable")]
    assert list(chosen[:15]) == order[:15] and len(set(chosen)) == 20
    assert agreement(world[4]).nodes == 6
