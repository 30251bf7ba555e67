"""Edges between features come from passes that run what lies between two sites alone, after what the prompts
share: they are those of gradients through one whole pass.
"""

from functools import partial

import numpy as np
import pytest
import torch
from planted.paper_model import difference, random_saes

from emocircuits.artifacts.push import Push
from emocircuits.attribution.methods.steered_features import steered_feature_sides
from emocircuits.graphs.features import FeatureGraph, FeatureLinear, SlotGradients
from emocircuits.graphs.site_nodes import contributions
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.names import TARGET
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.shared_prefix import SharedPrefix
from emocircuits.passes.task import Task

SHARED = 6


@pytest.fixture
def graph(tmp_path, request):
    """All errors and some features of two sites, on pairs that share their first tokens."""
    model = load_model(str(write_tiny_model(request.param, tmp_path)), checks=False).bridge
    source = torch.Generator().manual_seed(1)
    clean, corrupt = torch.randint(3, 200, (2, 3, 12), generator=source)
    corrupt[:, :SHARED] = clean[:, :SHARED]
    saes = random_saes("standard", 2, model.cfg.d_model, dtype=torch.float32)
    pairs = PromptPairs((PairBatch(clean, corrupt, torch.arange(3)),))
    nodes = [f"{kind}/{site}{end}" for site in saes for kind, end in (("error", ""), ("feature", "/3"))]
    nodes += [f"feature/{site}/7/p{SHARED + 2}" for site in saes]
    return FeatureGraph(Task(model, pairs, difference, saes), tuple(nodes))


def edges_of_a_whole_pass(linear):
    """The same sums with the Jacobian of one pass over all positions and blocks."""
    seen, sides = {}, linear.sides

    def keep(value, hook, site):
        # the weights have no gradients: what is seen first becomes a leaf
        seen[site] = value if seen else value.detach().requires_grad_()
        return seen[site]

    hooks = [(site, partial(keep, site=site)) for site in sides.sites]
    with torch.enable_grad():
        linear.graph.task.model.run_with_hooks(sides.batch.corrupt, fwd_hooks=hooks)
    (up, upstream), (down, downstream) = (
        (at, linear.graph.by_site[site]) for site, at in sides.sites.items()
    )
    found = []
    for place in range(len(downstream)):
        (seed,) = SlotGradients(down)(downstream.part([place]))
        (pulled,) = torch.autograd.grad(
            seen[down.dictionary.site], seen[up.dictionary.site], seed, retain_graph=True
        )
        found.append(contributions(up, upstream, pulled[None])[0])
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("graph", ["llama", "gpt2", "gemma3"], indirect=True)
@pytest.mark.parametrize("way", ["gradient", "path", "push"])
def test_edges_are_those_of_a_whole_pass(graph, way):
    (batch,) = graph.task.batches()
    if way == "push":
        site, width = next(iter(graph.task.saes)), graph.task.model.cfg.d_model
        push = Push("v", site, 0.5 * torch.randn(width))
        linear = FeatureLinear(graph, steered_feature_sides(graph.task, batch, push, 2))
    else:
        linear = graph.linear(graph.both_sides(batch), steps=2 if way == "path" else 0, edges=True)
        there_may_be = SharedPrefix.of(graph.task.model, batch) is not None  # not on gemma3
        assert (linear.sides.metric_from(graph.task).prefix is not None) == there_may_be
    edges = linear.edge_effects().numpy(force=True)
    between = edges[:, [graph.slots[target] != TARGET for target in graph.pairs[1]]]
    expected = edges_of_a_whole_pass(linear).numpy(force=True)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(between, expected, atol=1e-5 * np.abs(expected).max())
