"""The graph after a push: the direction is a node, its change is from the unsteered to the steered run, and
gradients are averaged over midpoints of the strength.
"""

from collections.abc import Collection, Iterable, Iterator

import torch

from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure, UserError
from emocircuits.graphs.components import ComponentGraph, component_graph
from emocircuits.graphs.parts import Injection
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.record import CleanCorrupt, Pass, differentiate, forward
from emocircuits.passes.task import Task

STEPS = 8


def steered_graph(task: Task, push: Push, features: Collection[str] = ()) -> ComponentGraph:
    """The components and features after a push, and the push; it writes before all of them."""
    start, whole = injection(push), component_graph(task, features)
    writers = [writer for writer in whole.writers if writer.writes_at > start.writes_at]
    readers = [reader for reader in whole.readers if reader.reads_at > start.writes_at]
    return ComponentGraph(task, (start, *writers), tuple(readers))


def injection(push: Push) -> Injection:
    """A push as a part that writes."""
    return Injection(push.name, push.site, push.vector)


def steered_sides(task: Task, batch: PairBatch, push: Push, taps: Iterable[str] = ()) -> CleanCorrupt:
    """Passes over the corrupt prompts with (as the clean side) and without the push.

    Args:
        task: the model and the metric.
        batch: prompts; the clean ones are not read.
        push: the direction.
        taps: hooks whose values are kept.

    Raises:
        Failure: the push changed nothing.
    """
    taps = tuple(dict.fromkeys([*taps, push.site]))
    plain = forward(task, batch.corrupt, batch.index, taps)
    steered = forward(task, batch.corrupt, batch.index, taps, changes=push.change())
    if torch.equal(plain.values[push.site], steered.values[push.site]):
        raise Failure(
            f"pushing along {push.name} at {push.site} changed nothing",
            cure="check the strength and the site",
        )
    return CleanCorrupt(batch, steered, plain)


def steering_points(
    task: Task,
    batch: PairBatch,
    push: Push,
    taps: Iterable[str],
    steps: int = STEPS,
    *,
    start: str | None = None,
) -> Iterator[tuple[float, Pass]]:
    """Differentiated passes at the midpoints of the strength, with equal weights.

    Args:
        task: the model, the metric and prompts, whose corrupt sides are pushed.
        batch: some of the prompts.
        push: the direction.
        taps: hooks whose values and gradients are kept.
        steps: midpoints.
        start: the hook at which gradients begin (`differentiate`).

    Raises:
        UserError: no step.
    """
    if steps < 1:
        raise UserError(f"steering over {steps} steps", expected="at least 1")
    taps = tuple(taps)
    for step in range(steps):
        changes = push.change((step + 0.5) / steps)
        yield (
            1 / steps,
            differentiate(task, batch.corrupt, batch.index, taps, changes=changes, start=start),
        )


def mean_difference(task: Task, site: str) -> Push:
    """The push from corrupt to clean: the mean difference of the streams at a site, over prompts and
    positions.

    Raises:
        UserError: streams that do not differ on average.
    """
    total = 0.0
    for batch in task.batches():
        clean, corrupt = (
            forward(task, tokens, batch.index, (site,)).values[site]
            for tokens in (batch.clean, batch.corrupt)
        )
        total = total + (clean - corrupt).sum((0, 1))
    if float(total.norm()) == 0.0:
        raise UserError(
            f"clean and corrupt streams do not differ at {site} on average",
            cure="give a push: Push(name, site, vector)",
        )
    return Push("clean-corrupt", site, total / task.prompts.n_tokens)
