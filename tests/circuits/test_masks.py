"""Scores of masks: they add up to the behaviour, are the derivative of real runs, and choose circuits that
hold together.
"""

from dataclasses import replace

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
from planted.tasks import task_of

from emocircuits.attribution.attribute import attribute
from emocircuits.circuits.activations import active_nodes
from emocircuits.circuits.faithfulness import EVERYTHING, circuit_metric
from emocircuits.circuits.from_attribution import select_nodes
from emocircuits.circuits.masks import MaskScores, best_prefix, mask_scores, refined_scores
from emocircuits.errors import UserError
from emocircuits.passes.prompt_pairs import PromptPairs


@pytest.fixture(scope="module")
def world():
    torch.manual_seed(0)
    model, saes = random_model(), random_saes("topk", 3, 12)
    return task_of(model, systematic(8, 7), difference, saes)


@pytest.fixture(scope="module")
def paper():
    return task_of(paper_model(), paper_batch(), paper_metric, paper_saes())


def gap(task):
    empty, full = circuit_metric(task, [(), EVERYTHING])
    return full - empty


def test_scores_of_all_nodes_add_up_to_what_everything_is_worth(world):
    """TopK SAEs jump where the selection changes, so the law is checked with ReLU SAEs."""
    torch.manual_seed(1)
    task = world.with_saes(random_saes("standard", 3, 12))
    found = mask_scores(task, points=[(step + 0.5) / 100 for step in range(100)])
    whole = gap(task)
    np.testing.assert_allclose(
        found.scores.sum(1) * np.sign(whole.mean()), whole, rtol=2e-2, atol=2e-2 * np.abs(whole).max()
    )


def test_with_everything_kept_a_score_is_what_attribution_says_of_the_clean_run(world):
    """At the clean run a node's mask moves it from its clean towards its corrupt value, and gradients
    upstream are the model's own.
    """
    torch.manual_seed(1)
    task = world.with_saes(random_saes("standard", 3, 12)).at_sites([SITES[2]])
    found = mask_scores(task, points=[1.0])
    swapped = attribute(task.swapped(), edges=False)
    sign = np.sign((swapped.metric_corrupt - swapped.metric_clean).mean())
    at = {node: number for number, node in enumerate(found.nodes)}
    taken = found.scores[:, [at[node] for node in swapped.nodes]] * sign
    np.testing.assert_allclose(taken, -swapped.effects, atol=1e-9)


def test_the_paper_model_by_hand(paper):
    """Its line from corrupt to clean is one linear piece: a feature is worth what its own change does, later
    ones read it live.
    """
    found = mask_scores(paper)
    worth = dict(zip(found.nodes, found.scores[0], strict=True))
    # five points of a product of three masks
    assert found.scores.sum() == pytest.approx(28.5 - 2.5, rel=0.02)
    # at the last site the metric reads a and s, not p; s has come through its masks at two sites: s/2 is
    # worth 3/2 * mean of t^2
    assert worth[f"feature/{SITES[2]}/{P}"] == 0 and worth[f"feature/{SITES[2]}/{S}"] == pytest.approx(
        1.5 / 3, rel=0.02
    )


def test_chosen_together_they_hold_more_than_the_strongest_alone(world):
    result = attribute(world, edges=False)
    size = 8
    chosen = refined_scores(world, size, among=result.nodes).best(size)
    alone = select_nodes(result, threshold=0.0, max_nodes=size)
    whole, empty = gap(world).mean(), circuit_metric(world, [()])[0].mean()
    together, strongest = (
        (circuit_metric(world, [nodes])[0].mean() - empty) / whole for nodes in (chosen, alone)
    )
    assert len(chosen) == size and set(chosen) <= set(result.nodes)
    assert abs(1 - together) < abs(1 - strongest)
    again = refined_scores(world, size, among=result.nodes).best(size)
    assert again == chosen


def test_batching_changes_nothing(world):
    (batch,), circuit = world.prompts.groups, [f"feature/{SITES[1]}/3", f"error/{SITES[0]}"]
    halves = PromptPairs((batch.rows(slice(0, 3)), batch.rows(slice(3, 8))))
    whole, parts = (
        mask_scores(task, circuit=circuit).scores
        for task in (world, replace(world, prompts=halves, max_tokens=1))
    )
    np.testing.assert_allclose(parts, whole, atol=1e-10)


def test_only_certain_helpful_nodes_are_taken():
    scores = MaskScores(("a", "b", "c"), np.array([[1.0, 5.0, -1.0], [1.1, -4.0, -1.1], [0.9, 5.0, -0.9]]))
    assert scores.best(3) == ("a",)
    with pytest.raises(UserError, match="no node's score is certain enough"):
        MaskScores(("a",), -np.ones((3, 1))).best(1)


def test_active_nodes_are_those_that_fire_on_either_side(paper):
    """The paper model: w, s, p, a on clean, c, k, p, a on corrupt prompts; a feature per axis, and k is
    missing in the middle.
    """
    assert active_nodes(paper) == {
        SITES[0]: 5,
        SITES[1]: 5,
        SITES[2]: 7,
    }


def test_a_circuit_that_would_do_more_than_the_model_is_cut_short(world):
    """Of nodes that help, so many that those which hold back are missed: the size closest to the model; else
    all of them.
    """
    found = mask_scores(world)
    mean = found.scores.mean(0)
    # certain or not
    ranked = tuple(found.nodes[place] for place in np.argsort(-mean)[: int((mean > 0).sum())])
    empty, full, *kept = circuit_metric(
        world, [(), EVERYTHING, *(ranked[: n + 1] for n in range(len(ranked)))]
    ).mean(1)
    worth = (np.array(kept) - empty) / (full - empty)
    assert worth[-1] > 1.05  # the case in question
    taken = best_prefix(world, ranked, sizes=40)
    assert taken == ranked[: len(taken)] and abs(worth[len(taken) - 1] - 1) <= abs(worth - 1).min() + 0.03
    short = next(n for n in range(2, len(ranked)) if worth[n - 1] < 0.9)
    assert best_prefix(world, ranked[:short]) == ranked[:short]
