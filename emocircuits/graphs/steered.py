"""The graph after a push: the direction is a node, its change is from the unsteered to the steered run, and
gradients are averaged over midpoints of the strength.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.push import Push
from emocircuits.errors import Failure, UserError
from emocircuits.graphs.components import ComponentGraph, component_graph
from emocircuits.graphs.parts import Injection
from emocircuits.names import layer_of, residual_site
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.record import Change, CleanCorrupt, Pass, differentiate, forward
from emocircuits.passes.resume import skipped_blocks, stream_at
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


@dataclass(frozen=True, eq=False)
class PushedBatch:
    """A batch whose corrupt prompts are pushed, once for each of some pushes. The blocks before the one that
    the pushes follow see nothing of them: they run once.

    Attributes:
        task: the model and the metric.
        batch: some of its prompts, one push after the other; the clean ones are not read.
        push: what is added, one vector a row where there are several pushes.
        names: of the pushes.
        layer: the first block that is run: the one with the site of the pushes.
        stream: what it reads; None where it is the first of the model.
    """

    task: Task
    batch: PairBatch
    push: Push
    names: tuple[str, ...]
    layer: int
    stream: Float[Tensor, "prompt pos d_model"] | None

    @classmethod
    def of(cls, task: Task, batch: PairBatch, *pushes: Push) -> "PushedBatch":
        """Runs what lies before the pushes, which are all at one site."""
        assert task.anatomy.layers  # found by whole passes, which are not possible inside `from_push`
        push, count, names = pushes[0], len(pushes), tuple(one.name for one in pushes)
        layer = layer_of(push.site)
        stream = stream_at(task.model, batch.corrupt, residual_site(layer - 1)) if layer else None
        if count > 1:
            vectors = torch.stack([one.vector for one in pushes]).repeat_interleave(len(batch), 0)
            push = replace(push, name=", ".join(names), vector=vectors)
            stream = stream if stream is None else stream.repeat(count, 1, 1)
            batch = batch.rows(torch.arange(len(batch), device=batch.index.device).repeat(count))
        return cls(task, batch, push, names, layer, stream)

    @property
    def count(self) -> int:
        """How many pushes."""
        return len(self.names)

    def from_push(self, copies: int = 1) -> AbstractContextManager[None]:
        """Passes over so many copies of the batch begin at the block that the pushes follow."""
        return self._from_block(None if self.stream is None else self.stream.repeat(copies, 1, 1))

    def sides(self, taps: Iterable[str] = ()) -> CleanCorrupt:
        """Passes with (as the clean side) and without the push; the latter is run once for all pushes.

        Args:
            taps: hooks after the push whose values are kept.

        Raises:
            Failure: a push changed nothing.
        """
        push, taps = self.push, tuple(dict.fromkeys([*taps, self.push.site]))
        prompts = len(self.batch) // self.count
        once = self.batch.rows(slice(prompts))
        with self._from_block(None if self.stream is None else self.stream[:prompts]):
            plain = forward(self.task, once.corrupt, once.index, taps)
        plain = plain.rows(torch.arange(prompts, device=once.index.device).repeat(self.count))
        with self.from_push():
            steered = forward(self.task, self.batch.corrupt, self.batch.index, taps, changes=push.change())
        moved = (plain.values[push.site] != steered.values[push.site]).view(self.count, -1).any(1)
        if not bool(moved.all()):
            raise Failure(
                f"pushing along {self.names[int(moved.int().argmin())]} at {push.site} changed nothing",
                cure="check the strength and the site",
            )
        return CleanCorrupt(self.batch, steered, plain)

    def points(
        self, taps: Iterable[str], steps: int = STEPS, *, skip_unread: bool = False
    ) -> Iterator[tuple[float, Pass]]:
        """Differentiated passes at the midpoints of the strength, with equal weights; as many at once as fit.

        Args:
            taps: hooks after the push whose values and gradients are kept.
            steps: midpoints.
            skip_unread: see `differentiate`.

        Raises:
            UserError: no step.
        """
        if steps < 1:
            raise UserError(f"steering over {steps} steps", expected="at least 1")
        taps, size, task = tuple(taps), len(self.batch), self.task
        at_once = max(1, task.max_tokens // self.batch.corrupt.numel())
        for first in range(0, steps, at_once):
            amounts = [(step + 0.5) / steps for step in range(first, min(first + at_once, steps))]
            tokens, index = (
                value.repeat(len(amounts), *[1] * (value.ndim - 1))
                for value in (self.batch.corrupt, self.batch.index)
            )
            with self.from_push(len(amounts)):
                passes = differentiate(
                    task,
                    tokens,
                    index,
                    taps,
                    changes={self.push.site: self._pushed(amounts)},
                    start=self.push.site,
                    skip_unread=skip_unread,
                )
            yield from (
                (1 / steps, passes.rows(slice(start, start + size))) for start in range(0, len(tokens), size)
            )

    def _pushed(self, amounts: list[float]) -> Change:
        """The push by one amount per copy of the prompts."""
        vector = self.push.vector.expand(len(self.batch), -1)
        added = torch.cat([amount * vector for amount in amounts])[:, None]
        return lambda value: value + added.to(value)

    def _from_block(self, stream: Float[Tensor, "row pos d_model"] | None) -> AbstractContextManager[None]:
        return skipped_blocks(self.task.model, self.layer, stream)


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
