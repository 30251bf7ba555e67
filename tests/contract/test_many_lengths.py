"""Prompts of several lengths go through every public call and give what each length gives alone."""

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_model, random_saes

import emocircuits
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task

LENGTHS = (5, 7, 5, 6, 7, 5)


def prompts(seed=0):
    source = torch.Generator().manual_seed(seed)
    clean, corrupt = [], []
    for length in LENGTHS:
        ids = torch.randint(0, 9, (length,), generator=source)
        other = ids.clone()
        ids[1], ids[3], other[1], other[3] = 1, 4, 2, 6
        clean.append(ids.tolist())
        corrupt.append(other.tolist())
    return clean, corrupt


@pytest.fixture(scope="module", params=["features", "components"])
def task(request):
    torch.manual_seed(0)
    saes = random_saes("topk", 3, 12) if request.param == "features" else {}
    return Task(random_model(), PromptPairs.of(*prompts()), difference, saes)


def kind(task):
    return "features" if task.saes else "components"


@pytest.fixture(scope="module")
def effects(task):
    return emocircuits.attribute(task, nodes=kind(task), edges=True)


def one_length(task, length):
    """The pairs of one length alone, and their places."""
    places = [place for place, own in enumerate(LENGTHS) if own == length]
    clean, corrupt = prompts()
    some = PromptPairs.of([clean[place] for place in places], [corrupt[place] for place in places])
    return task.on(some), places


@pytest.mark.parametrize("method", ["attribution_patching", "integrated_gradients", "exact", "verified"])
def test_attribution_is_that_of_each_length(task, method):
    if method == "verified" and task.saes:
        pytest.skip("the search is for components")
    whole = emocircuits.attribute(task, nodes=kind(task), method=method)
    assert whole.effects.shape[0] == len(LENGTHS)
    for length in set(LENGTHS):
        alone, places = one_length(task, length)
        found = emocircuits.attribute(alone, nodes=kind(task), method=method)
        np.testing.assert_allclose(found.metric_clean, whole.metric_clean[places], rtol=1e-6)
        column = {node: number for number, node in enumerate(whole.nodes)}
        same = [node for node in found.nodes if node in column]
        own = found.effects[:, [found.nodes.index(node) for node in same]]
        np.testing.assert_allclose(
            own, whole.effects[np.ix_(places, [column[node] for node in same])], rtol=1e-5, atol=1e-7
        )
        assert len(same) > 5


def test_scores_of_a_circuit_read_all_prompts(task, effects):
    circuit = emocircuits.CircuitGraph.from_attribution(effects, max_nodes=8)
    score = emocircuits.faithfulness(circuit, task)
    alone, _ = one_length(task, 7)
    assert np.isfinite(float(score)) and float(score) != float(emocircuits.faithfulness(circuit, alone))
    verified = emocircuits.verify(circuit, task)
    assert any(node.verified is not None for node in verified.nodes)
