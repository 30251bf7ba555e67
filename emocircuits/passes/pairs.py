"""Batches of clean and corrupt prompts of one length, and metrics on them."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from emocircuits.errors import Failure, UserError
from emocircuits.passes.baselines import Baseline

Metric = Callable[..., torch.Tensor]
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Prompt pairs of one length; nothing is padded.

    Attributes:
        clean: token ids of the clean prompts (desperate circumstances).
        corrupt: token ids of the corrupt prompts (calm circumstances).
        index: number of each pair in the whole set; results are in this order.
        baseline: what nodes are compared with where prompts have no aligned partner; `corrupt` is `clean`
            then.
    """

    clean: Int[torch.Tensor, "..."]
    # (prompt, pos) as clean; checked below, with an error that says the cure
    corrupt: Int[torch.Tensor, "..."]
    index: Int[torch.Tensor, "..."]
    baseline: Baseline | None = None

    def __post_init__(self) -> None:
        shapes = tuple(self.clean.shape), tuple(self.corrupt.shape)
        if len(shapes[0]) != 2 or len(shapes[1]) != 2 or 0 in shapes[0]:
            raise UserError(
                f"clean and corrupt tokens have shapes {shapes[0]} and {shapes[1]}",
                expected="token ids (prompt, pos), not empty",
            )
        if shapes[0] != shapes[1]:
            raise UserError(
                f"clean prompts have shape {shapes[0]} and corrupt prompts {shapes[1]}",
                expected="the same number of prompts and of tokens",
                cure="choose circumstances of as many tokens, or use mean, zero or resample ablation, which "
                "need no pair: baseline='mean'",
            )
        if tuple(self.index.shape) != (shapes[0][0],):
            raise UserError(
                f"the pair index has shape {tuple(self.index.shape)}", expected=f"({shapes[0][0]},)"
            )

    def __len__(self) -> int:
        return len(self.clean)

    def rows(self, chosen: slice | Int[torch.Tensor, "row"]) -> "PairBatch":
        """Some of the pairs."""
        return PairBatch(self.clean[chosen], self.corrupt[chosen], self.index[chosen], self.baseline)


def group_pairs(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[PairBatch]:
    """Groups pairs of token lists by length; the pair's number in the sequence becomes its index.

    Raises:
        UserError: a pair whose sides have different lengths, or no pair at all.
    """
    groups: dict[int, list[int]] = {}
    for number, (clean, corrupt) in enumerate(pairs):
        if len(clean) != len(corrupt):
            raise UserError(
                f"pair {number} has {len(clean)} clean and {len(corrupt)} corrupt tokens",
                expected="equal lengths",
            )
        groups.setdefault(len(clean), []).append(number)
    if not groups:
        raise UserError("no prompt pair was given")
    return [
        PairBatch(
            torch.tensor([list(pairs[n][0]) for n in numbers]),
            torch.tensor([list(pairs[n][1]) for n in numbers]),
            torch.tensor(numbers),
        )
        for _, numbers in sorted(groups.items())
    ]


def chunks(batches: Sequence[PairBatch], max_tokens: int = DEFAULT_MAX_TOKENS) -> Iterator[PairBatch]:
    """The same pairs in batches of at most `max_tokens` tokens a side (at least one pair each).

    Raises:
        UserError: no pair, or one index twice.
    """
    index = all_indices(batches)
    if len(set(index)) != len(index):
        raise UserError("two prompt pairs share an index", cure="number the pairs over all batches")
    for batch in batches:
        step = max(1, max_tokens // batch.clean.shape[1])
        for start in range(0, len(batch), step):
            yield batch.rows(slice(start, start + step))


def all_indices(batches: Sequence[PairBatch]) -> list[int]:
    """The indices of all pairs, in the order of the batches."""
    if not batches:
        raise UserError("no prompt pair was given")
    return [int(number) for batch in batches for number in batch.index]


def measure(
    metric: Metric, logits: Float[torch.Tensor, "prompt pos d_vocab"], index: Int[torch.Tensor, "prompt"]
) -> Float[torch.Tensor, "prompt"]:
    """Calls a metric and checks its answer.

    A metric that demands a second argument is given the indices of the prompts in this batch.

    Raises:
        UserError: not one finite value per prompt.
    """
    values = metric(logits, index) if _wants_index(metric) else metric(logits)
    if not isinstance(values, torch.Tensor) or tuple(values.shape) != (len(logits),):
        got = (
            f"shape {tuple(values.shape)}"
            if isinstance(values, torch.Tensor)
            else f"a {type(values).__name__}"
        )
        raise UserError(
            f"the metric returned {got} for {len(logits)} prompts",
            expected=f"one value per prompt, ({len(logits)},)",
            cure="read the logits at one position and do not average over prompts",
        )
    if not bool(torch.isfinite(values).all()):
        raise Failure(
            "the metric is NaN or infinite", cure="check the model's weights and the metric's tokens"
        )
    return values


def _wants_index(metric: Metric) -> bool:
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [
        p
        for p in parameters
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    return len(needed) >= 2
