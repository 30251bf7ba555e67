"""Edges next to real interventions in the model with patterns, norm scales and activations held as they are.

The gradients follow the rules of `relp`, which describe a linear model. Here that linear model is run for
real: hooks hold each norm's scale, each attention pattern and each activation's slope at their values on the
corrupt prompt, and the slot of an edge alone reads the stream plus what the edge's source writes. No
derivative is taken.
"""

from contextlib import contextmanager
from dataclasses import replace

import torch
from planted.tasks import pairs_of, task_of

import emocircuits
from emocircuits.attribution.methods.relp import NORMS, _apart, relp_rules
from emocircuits.graphs.components import component_graph
from emocircuits.passes.hooks import hooked


class Difference:
    """A difference of logits, before they are soft-capped where they are."""

    def __init__(self, cap):
        self.cap = cap

    def __call__(self, logits):
        last = logits[:, -1].double()
        last = last if self.cap is None else self.cap * torch.atanh(last / self.cap)
        return last[:, 3] - last[:, 5]


@contextmanager
def frozen(anatomy, tokens):
    """The model is linear inside this context: what divides and what multiplies is what it is on `tokens`."""
    held = {}
    places = [
        name
        for layer in anatomy.layers
        for name in (*(f"{layer.hook(norm)}.hook_scale" for norm in NORMS), layer.hook("hook_pattern"))
    ]
    places = [name for name in (*places, "ln_final.hook_scale") if name in anatomy.points]
    acts = [
        [f"blocks.{layer.number}.mlp.{name}" for name in ("hook_pre", "hook_pre_linear", "hook_post")]
        for layer in anatomy.layers
    ]
    acts = [[name for name in group if name in anatomy.points] for group in acts]
    every = [*places, *(name for group in acts for name in group)]

    def record(name):
        return lambda value, hook: held.__setitem__(name, value.clone())

    # recorded under the rules: their y / x jumps where x is next to nothing, so a run that differs by
    # rounding would not do
    with (
        hooked(anatomy.model, anatomy.points, [(name, record(name)) for name in every]),
        relp_rules(anatomy),
        torch.no_grad(),
    ):
        anatomy.model(tokens)
    now = {}

    def hold(name):
        def hook(value, hook):
            was = held[name]
            while was.ndim < value.ndim:  # heads side by side, after the positions
                was = was.unsqueeze(2)
            return was.expand_as(value).clone()

        return hook

    def keep(name):
        return lambda value, hook: now.__setitem__(name, value)

    def post(group):
        def hook(value, hook):
            return sum(now[name] * held[group[-1]] / _apart(held[name]) for name in group[:-1]) / (
                len(group) - 1
            )

        return hook

    hooks = [(name, hold(name)) for name in places]
    for group in acts:
        hooks += [(name, keep(name)) for name in group[:-1]] + [(group[-1], post(group))]
    with hooked(anatomy.model, anatomy.points, hooks):
        yield


def frozen_edges(bridge):
    """Every edge of a random prompt pair twice: attributed, and by a real intervention in the
    frozen model.
    """
    metric = Difference(getattr(bridge.original_model.config, "final_logit_softcapping", None))
    # longer than the sliding windows
    clean, corrupt = torch.randint(3, 200, (2, 1, 15), generator=torch.Generator().manual_seed(0))
    corrupt[:, 0] = clean[:, 0]
    batch = pairs_of(clean, corrupt)
    result = emocircuits.attribute(bridge, clean, corrupt, metric, nodes="components", method="relp")
    graph = component_graph(task_of(bridge, batch, metric))
    sides = graph.both_sides(batch)
    with frozen(graph.task.anatomy, corrupt):
        again = graph.both_sides(batch)
        torch.testing.assert_close(again.corrupt.metric, sides.corrupt.metric, rtol=0, atol=1e-5)
        patcher = graph.patcher(replace(sides, corrupt=again.corrupt))
        found = patcher.edges(
            list(zip(result.edges.sources.tolist(), result.edges.targets.tolist(), strict=True))
        ).numpy()
    return result.edges.effects, found
