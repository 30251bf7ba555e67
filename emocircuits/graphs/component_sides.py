"""Both runs of a batch at the hooks that a component graph reads, and the reference where prompts have no
partner.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.graphs.parts import Features, Writer
from emocircuits.graphs.parts.part import POSITIONS
from emocircuits.graphs.reference_values import ReferenceValues
from emocircuits.passes.prompt_pairs import PairBatch, Reference
from emocircuits.passes.record import CleanCorrupt, Pass, differentiate, forward
from emocircuits.passes.task import Task

WRITTEN_BYTES = 1 << 29


def plain_sides(task: Task, batch: PairBatch, taps: Iterable[str]) -> CleanCorrupt:
    """Forward passes on both sides."""
    clean, corrupt = (forward(task, tokens, batch.index, taps) for tokens in (batch.clean, batch.corrupt))
    return CleanCorrupt(batch, clean, corrupt)


def differentiated_sides(
    task: Task, batch: PairBatch, taps: Iterable[str], written: Iterable[str], values: Iterable[str]
) -> CleanCorrupt:
    """A forward pass on the clean side, a forward and a backward pass on the corrupt one.

    Args:
        task: the model and the metric.
        batch: prompt pairs.
        taps: hooks whose values and gradients are needed.
        written: hooks that say what nodes write, on the clean side.
        values: hooks whose values are needed on the corrupt side besides.
    """
    clean = forward(task, batch.clean, batch.index, written, skip_unread=True)
    corrupt = differentiate(task, batch.corrupt, batch.index, taps, constants=values)
    return CleanCorrupt(batch, clean, corrupt, passes=3)


def component_references(
    task: Task, reference: Reference, taps: Sequence[str], features: Sequence[Features]
) -> ReferenceValues:
    """The reference values of hooks, and of the features and errors of some sites."""
    silent = task.with_metric(_nothing)

    def read(tokens: Int[Tensor, "prompt pos"]) -> dict[str, Tensor]:
        held = dict(forward(silent, tokens, torch.arange(len(tokens)), taps).values)
        for part in features:
            held |= part.parts(held)
        return held

    return ReferenceValues(reference, read)


@torch.no_grad()
def reference_sides(
    task: Task,
    batch: PairBatch,
    known: ReferenceValues,
    taps: Sequence[str],
    writers: Sequence[Writer],
) -> CleanCorrupt:
    """The clean run, and the reference of every hook, as its corrupt side; without that side's metric
    (`with_reference_metric`).
    """
    clean = forward(task, batch.clean, batch.index, taps)
    own = dict(clean.values)
    for part in writers:
        if isinstance(part, Features):
            own |= part.parts(own)
    held = known.at(batch.clean, own)
    values = {name: value.expand_as(own[name]) for name, value in held.items()}
    if task.anatomy.positions is not None:
        values[POSITIONS] = clean.values[task.anatomy.positions]
    return CleanCorrupt(batch, clean, Pass(values, {}, clean.metric), 1 + known.passes, ablated=True)


@torch.no_grad()
def with_reference_metric(
    task: Task, sides: CleanCorrupt, written: Float[Tensor, "prompt pos d_model"]
) -> CleanCorrupt:
    """The same with the metric of the stream without what all nodes write above their reference."""
    last, batch = task.anatomy.last, sides.batch
    stream = sides.clean.values[last] - written
    rest = forward(task, batch.clean, batch.index, changes={last: lambda value: stream})
    reference = Pass(sides.corrupt.values, {}, rest.metric)
    return CleanCorrupt(batch, sides.clean, reference, sides.passes + 1, ablated=True)


def tokens_at_once(task: Task, n_nodes: int) -> int:
    """Tokens per pass, fewer where what all nodes write would not fit into half a gigabyte."""
    return max(1, min(task.max_tokens, WRITTEN_BYTES // (n_nodes * task.model.cfg.d_model * 4)))


def _nothing(logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
    return logits[:, -1, 0]
