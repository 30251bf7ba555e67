"""What is registered as an ablation is what a circuit is run with, on features and on components alike."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of

from emocircuits.graphs.components import component_graph
from emocircuits.graphs.features import FeatureGraph
from emocircuits.interventions.ablate import ABLATIONS, Ablation


def graph_of(kind):
    torch.manual_seed(0)
    saes = random_saes("topk", 2, 12) if kind == "features" else None
    task = task_of(random_model(), random_batch(), difference, saes)
    if kind == "components":
        return component_graph(task)
    nodes = [f"feature/{site}/{number}" for site, sae in task.saes.items() for number in range(sae.d_sae)]
    return FeatureGraph(task, (*nodes, *(f"error/{site}" for site in task.saes)))


def some_circuits(graph):
    chosen = np.random.default_rng(0).random((4, len(graph.items))) < 0.5
    chosen[0], chosen[1] = False, True
    return chosen


@pytest.mark.parametrize("kind", ["features", "components"])
def test_a_new_ablation_that_says_the_same_as_an_old_one_gives_the_same(kind):
    graph = graph_of(kind)
    circuits = some_circuits(graph)
    twins = {
        "resample": Ablation("twin", "what resample does, as a new tensor", lambda other, mean: other + 0),
        "mean": Ablation(
            "twin", "what mean does, as a new tensor", lambda other, mean: mean + 0, needs_mean=True
        ),
        "zero": Ablation("twin", "what zero does, at full size", lambda other, mean: 0 * other),
    }
    seen = []
    for name, twin in twins.items():
        expected = graph.runner().run(circuits, ablation=name)
        with ABLATIONS.temporarily(twin):
            found = graph.runner().run(circuits, ablation="twin")
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        seen.append(expected)
    for first, second in ((0, 1), (1, 2), (0, 2)):  # three things, not one
        assert np.abs(seen[first] - seen[second])[[0, 2, 3]].max() > 1e-3


@pytest.mark.parametrize("kind", ["features", "components"])
def test_half_of_the_other_value_is_neither_all_of_it_nor_nothing(kind):
    graph = graph_of(kind)
    circuits = some_circuits(graph)
    half = Ablation("half", "half of the value on the corrupt prompt", lambda other, mean: other / 2)
    with ABLATIONS.temporarily(half):
        found = graph.runner().run(circuits, ablation="half")
    for name in ("resample", "mean", "zero"):
        other = graph.runner().run(circuits, ablation=name)
        assert np.abs(found - other)[[0, 2, 3]].max() > 1e-3
        np.testing.assert_allclose(found[1], other[1], rtol=1e-9)  # nothing is ablated
