"""Many edited forward passes at once: what lies before the edited site runs only once for each prompt."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import Failure, UserError
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.replicas import replicas
from emocircuits.passes.anatomy import Anatomy, open_anatomy
from emocircuits.passes.attention import PROBE_LENGTH, can_fuse, fused
from emocircuits.passes.hooks import recorded
from emocircuits.passes.last_block import last_position_after_attention, unwatched
from emocircuits.passes.metric import Metric, ask
from emocircuits.passes.resume import resume
from emocircuits.threads import side_by_side

Hooks = Sequence[tuple[str, Callable]]
# (rows, columns) of a batch -> the stream to resume with at the site, and hooks at later sites
Edited = Callable[[Tensor, Tensor], tuple[Tensor, Hooks]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Ways to edit the stream at a site and after it, one a row.

    Attributes:
        site: a `hook_resid_post` site.
        count: how many.
        plan: (tokens, their stream at the site) of a group of prompts -> how its passes are made.
    """

    site: str
    count: int
    plan: Callable[[Tensor, Tensor], Edited]


def equal_length_groups(
    prompts: Sequence[Sequence[int]],
) -> Iterator[tuple[Int[np.ndarray, "group"], Int[Tensor, "group pos"]]]:
    """Prompts of the same length together, shortest first: their numbers in the list, and their tokens (no
    padding).
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    for length in np.unique(lengths):
        numbers = np.flatnonzero(lengths == length)
        yield numbers, torch.tensor([list(prompts[number]) for number in numbers])


@dataclass(frozen=True, eq=False)
class Crew:
    """Replicas of a model, one for each thread, that resume passes whose last position alone is read.

    Attributes:
        bridges: the replicas.
        anatomies: their parts; None for a model whose parts are not found or whose last block is watched by a
            hook: then that block runs in full.
        fuse: whether attention runs without patterns.
    """

    bridges: tuple[Any, ...]
    anatomies: tuple[Anatomy | None, ...]
    fuse: bool

    @classmethod
    def of(cls, bridge: Any) -> "Crew":
        """A crew for this model and the hooks that are set on it.

        Args:
            bridge: any TransformerLens object.
        """
        bridges = replicas(bridge)
        tokens = torch.arange(PROBE_LENGTH, device=bridge.cfg.device)[None] % bridge.cfg.d_vocab
        anatomies = tuple(_anatomy(one, tokens) for one in bridges)
        return cls(tuple(bridges), anatomies, can_fuse(bridge, tokens))

    @contextmanager
    def member(self, number: int) -> Iterator[Any]:
        """Replica `number`, whose attention makes no patterns where that gives the same."""
        bridge = self.bridges[number]
        with fused(bridge) if self.fuse else nullcontext():
            yield bridge

    def resume(
        self, number: int, tokens: Tensor, site: str, stream: Tensor, hooks: Hooks = (), *, last: bool = True
    ) -> Float[Tensor, "prompt kept d_vocab"]:
        """Logits at the last position, or at all, by replica `number`."""
        anatomy = self.anatomies[number] if last else None
        short = (
            nullcontext() if anatomy is None else last_position_after_attention(anatomy, anatomy.layers[-1])
        )
        with self.member(number) as bridge, short:
            return resume(bridge, tokens, site, stream, last=last, hooks=hooks)


@torch.no_grad()
def resumed_metric(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    rows: Rows,
    metric: Metric,
    *,
    crew: Crew | None = None,
    batch_tokens: int = 4096,
    tick: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "row prompt *rest"]:
    """The metric of every prompt in every row.

    Args:
        model: the model.
        prompts: token ids.
        rows: how the streams are edited.
        metric: logits `(prompt, pos, d_vocab)`, and the numbers of the prompts where it takes them -> one
            number (or several) per prompt, read at the last position.
        crew: its replicas, where several calls share them.
        batch_tokens: tokens per forward pass.
        tick: called with the number of finished (row, prompt) pairs.

    Raises:
        UserError: no prompts.
        Failure: the resumed forward pass differs from the whole one.
    """
    if not len(prompts):
        raise UserError("there are no prompts to steer")
    device, site = model.bridge.cfg.device, rows.site
    crew = crew or Crew.of(model.bridge)

    def passes() -> Iterator[_Pass]:
        for numbers, tokens in equal_length_groups(prompts):
            tokens = tokens.to(device)
            with recorded(model.bridge, [site]) as streams:
                logits = model.bridge(tokens, use_cache=False, logits_to_keep=1)
            whole, residual = ask(metric, logits, torch.from_numpy(numbers)), streams[site]
            yield _Pass(tokens, lambda residual=residual: (residual, []), numbers, whole=whole)
            edited = rows.plan(tokens, residual)
            pairs = torch.cartesian_prod(torch.arange(rows.count), torch.arange(len(numbers)))
            for part in pairs.split(max(1, batch_tokens // tokens.shape[1])):
                chosen, columns = part.T.to(device)
                yield _Pass(
                    tokens[columns],
                    partial(edited, chosen, columns),
                    numbers[part[:, 1].numpy()],
                    rows=part[:, 0].numpy(),
                )

    @torch.no_grad()
    def run(number: int, one: _Pass) -> tuple[_Pass, Tensor]:
        stream, hooks = one.make()
        logits = crew.resume(number, one.tokens, site, stream, hooks)
        return one, ask(metric, logits, torch.from_numpy(one.numbers))

    results: np.ndarray | None = None
    for one, values in side_by_side(run, passes(), range(len(crew.bridges))):
        if one.whole is not None:
            _check_resumed(values, one.whole, site)
            if results is None:
                results = np.zeros((rows.count, len(prompts), *values.shape[1:]))
            continue
        results[one.rows, one.numbers] = values.double().cpu().numpy()
        if tick:
            tick(len(values))
    return results


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass: its prompts and their numbers, what makes the stream and the hooks, the rows that its values
    go to; or the value of the whole pass, which it must repeat.
    """

    tokens: Tensor
    make: Callable[[], tuple[Tensor, Hooks]]
    numbers: Int[np.ndarray, "prompt"]
    rows: Int[np.ndarray, "prompt"] | None = None
    whole: Tensor | None = None


def _anatomy(bridge: Any, tokens: Tensor) -> Anatomy | None:
    anatomy = open_anatomy(bridge, tokens)
    try:
        return anatomy if anatomy.layers and unwatched(anatomy) else None
    except UserError:
        return None


def _check_resumed(resumed: Tensor, whole: Tensor, site: str) -> None:
    gap = float((resumed - whole).abs().max())
    if gap > 1e-3 * max(1.0, float(whole.abs().max())):
        raise Failure(
            f"resuming the forward pass at {site} changes the metric by {gap:.3g}",
            expected="the same numbers",
            cure="this architecture cannot be resumed in the middle",
        )
