"""Scores of masks: they add up to the behaviour, are the derivative of real runs, and choose circuits that
hold together.
"""

import numpy as np
import pytest
import torch
from circuits.circuit_world import systematic
from planted.paper_model import (
    SITES,
    P,
    S,
    difference,
    paper_batch,
    paper_metric,
    paper_model,
    paper_saes,
    random_model,
    random_saes,
)

from emocircuits.attribution import PairBatch, attribution_patching
from emocircuits.circuits import EVERYTHING, circuit_metric, select_nodes
from emocircuits.circuits.active import active_nodes
from emocircuits.circuits.masks import MaskScores, closest, mask_scores, refined_scores
from emocircuits.errors import UserError


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    return random_model(), random_saes("topk", 3, 12), systematic(8, 7)


def gap(model, saes, batch):
    empty, full = circuit_metric(model, saes, [batch], difference, [(), EVERYTHING])
    return full - empty


def test_scores_of_all_nodes_add_up_to_what_everything_is_worth(world):
    """TopK SAEs jump where the selection changes, so the law is checked with ReLU SAEs."""
    torch.manual_seed(1)
    model, saes, batch = world[0], random_saes("standard", 3, 12), world[2]
    points = [(step + 0.5) / 100 for step in range(100)]
    found = mask_scores(model, saes, [batch], difference, points=points)
    whole = gap(model, saes, batch)
    np.testing.assert_allclose(
        found.scores.sum(1) * np.sign(whole.mean()), whole, rtol=2e-2, atol=2e-2 * np.abs(whole).max()
    )


def test_with_everything_kept_a_score_is_what_attribution_says_of_the_clean_run(world):
    """At the clean run a node's mask moves it from its clean towards its corrupt value, and gradients
    upstream are the model's own.
    """
    torch.manual_seed(1)
    model, batch = world[0], world[2]
    saes = {site: sae for site, sae in random_saes("standard", 3, 12).items() if site == SITES[2]}
    found = mask_scores(model, saes, [batch], difference, points=[1.0])
    swapped = attribution_patching(
        model, saes, [PairBatch(batch.corrupt, batch.clean, batch.index)], difference
    )
    sign = np.sign((swapped.metric_corrupt - swapped.metric_clean).mean())
    at = {node: number for number, node in enumerate(found.nodes)}
    taken = found.scores[:, [at[node] for node in swapped.nodes]] * sign
    np.testing.assert_allclose(taken, -swapped.effects, atol=1e-9)


def test_the_paper_model_by_hand():
    """Its line from corrupt to clean is one linear piece: a feature is worth what its own change does, later
    ones read it live.
    """
    found = mask_scores(paper_model(), paper_saes(), [paper_batch()], paper_metric)
    worth = dict(zip(found.nodes, found.scores[0], strict=True))
    # five points of a product of three masks
    assert found.scores.sum() == pytest.approx(28.5 - 2.5, rel=0.02)
    # at the last site the metric reads a and s, not p; s has come through its masks at two sites: s/2 is
    # worth 3/2 * mean of t^2
    assert worth[f"feature/{SITES[2]}/{P}"] == 0 and worth[f"feature/{SITES[2]}/{S}"] == pytest.approx(
        1.5 / 3, rel=0.02
    )


def test_chosen_together_they_hold_more_than_the_strongest_alone(world):
    model, saes, batch = world
    result = attribution_patching(model, saes, [batch], difference)
    size = 8
    chosen = refined_scores(model, saes, [batch], difference, size, among=result.nodes).best(size)
    alone = select_nodes(result, threshold=0.0, max_nodes=size)
    whole, empty = (
        gap(model, saes, batch).mean(),
        circuit_metric(model, saes, [batch], difference, [()])[0].mean(),
    )
    together, strongest = (
        (circuit_metric(model, saes, [batch], difference, [nodes])[0].mean() - empty) / whole
        for nodes in (chosen, alone)
    )
    assert len(chosen) == size and set(chosen) <= set(result.nodes)
    assert abs(1 - together) < abs(1 - strongest)
    again = refined_scores(model, saes, [batch], difference, size, among=result.nodes).best(size)
    assert again == chosen


def test_batching_changes_nothing(world):
    model, saes, batch = world
    circuit = [f"feature/{SITES[1]}/3", f"error/{SITES[0]}"]
    whole, parts = (
        mask_scores(model, saes, batches, difference, circuit=circuit, max_tokens=most).scores
        for batches, most in (([batch], 4096), ([batch.rows(slice(0, 3)), batch.rows(slice(3, 8))], 1))
    )
    np.testing.assert_allclose(parts, whole, atol=1e-10)


def test_only_certain_helpful_nodes_are_taken():
    scores = MaskScores(("a", "b", "c"), np.array([[1.0, 5.0, -1.0], [1.1, -4.0, -1.1], [0.9, 5.0, -0.9]]))
    assert scores.best(3) == ("a",)
    with pytest.raises(UserError, match="no node's score is certain enough"):
        MaskScores(("a",), -np.ones((3, 1))).best(1)


def test_active_nodes_are_those_that_fire_on_either_side():
    """The paper model: w, s, p, a on clean, c, k, p, a on corrupt prompts; a feature per axis, and k is
    missing in the middle.
    """
    assert active_nodes(paper_model(), paper_saes(), [paper_batch()]) == {
        SITES[0]: 5,
        SITES[1]: 5,
        SITES[2]: 7,
    }


def test_a_circuit_that_would_do_more_than_the_model_is_cut_short(world):
    """Of nodes that help, so many that those which hold back are missed: the size closest to the model; else
    all of them.
    """
    model, saes, batch = world
    found = mask_scores(model, saes, [batch], difference)
    mean = found.scores.mean(0)
    # certain or not
    ranked = tuple(found.nodes[place] for place in np.argsort(-mean)[: int((mean > 0).sum())])
    empty, full, *kept = circuit_metric(
        model, saes, [batch], difference, [(), EVERYTHING, *(ranked[: n + 1] for n in range(len(ranked)))]
    ).mean(1)
    worth = (np.array(kept) - empty) / (full - empty)
    assert worth[-1] > 1.05  # the case in question
    taken = closest(model, saes, [batch], difference, ranked, sizes=40)
    assert taken == ranked[: len(taken)] and abs(worth[len(taken) - 1] - 1) <= abs(worth - 1).min() + 0.03
    short = next(n for n in range(2, len(ranked)) if worth[n - 1] < 0.9)
    assert closest(model, saes, [batch], difference, ranked[:short]) == ranked[:short]
