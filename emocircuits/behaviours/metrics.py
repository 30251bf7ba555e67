"""The metric of a behaviour: log-odds of the action words against the honest words at the last position."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.errors import UserError


@dataclass(frozen=True)
class LogOdds:
    """M = logsumexp(logits of targets) - logsumexp(logits of honest) at the last position, in nats.

    It equals log P(target) - log P(honest), since the normaliser cancels. Positive: the behaviour is more
    likely than the honest actions. The rate among the two is sigmoid(M). Differentiable in the logits.

    Attributes:
        target_ids: tokens of the behaviour.
        honest_ids: tokens it competes with.
        label: its words, e.g. `cheat − fix`.
        swapped: numbers of the prompts in which the two exchange their roles: of a choice between (A) and
            (B), those that offer the honest act as (A).
    """

    target_ids: tuple[int, ...]
    honest_ids: tuple[int, ...]
    label: str = ""
    swapped: frozenset[int] = frozenset()

    def __call__(
        self, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"] | None = None
    ) -> Float[Tensor, "prompt"]:
        """The metric of every prompt.

        Args:
            logits: of prompts of one length that end right before the action word (no padding).
            index: numbers of the prompts; needed where some are swapped.

        Raises:
            UserError: the logits have another number of axes, or fewer tokens than the ids need; or the
                numbers are missing.
        """
        if logits.ndim != 3:
            raise UserError(f"logits have shape {tuple(logits.shape)}", expected="(prompt, pos, d_vocab)")
        last = logits[:, -1]
        if last.shape[-1] <= max(*self.target_ids, *self.honest_ids):
            raise UserError(
                f"logits cover {last.shape[-1]} tokens and the metric needs token "
                f"{max(*self.target_ids, *self.honest_ids)}",
                expected="logits of the model whose tokenizer gave the ids",
            )
        odds = last[:, list(self.target_ids)].logsumexp(-1) - last[:, list(self.honest_ids)].logsumexp(-1)
        return torch.where(self._exchanged(logits, index), -odds, odds) if self.swapped else odds

    def rate(
        self, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"] | None = None
    ) -> Float[Tensor, "prompt"]:
        """P(target | target or honest) of every prompt."""
        return torch.sigmoid(self(logits, index))

    def probabilities(
        self, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"] | None = None
    ) -> Float[Tensor, "prompt two"]:
        """P(target) and P(honest) of every prompt among all that the model may write; their sum is the
        coverage.
        """
        shares = logits[:, -1].double().softmax(-1)
        both = torch.stack(
            [shares[:, list(ids)].sum(-1) for ids in (self.target_ids, self.honest_ids)], dim=-1
        )
        if not self.swapped:
            return both
        return torch.where(self._exchanged(logits, index)[:, None], both.flip(-1), both)

    def _exchanged(
        self, logits: Float[Tensor, "prompt pos d_vocab"], index: Int[Tensor, "prompt"] | None
    ) -> Bool[Tensor, "prompt"]:
        if index is None:
            raise UserError(
                "a metric of choices in both orders needs the numbers of the prompts", expected="index="
            )
        return torch.tensor([int(number) in self.swapped for number in index], device=logits.device)


def log_odds(target_ids: Sequence[int], honest_ids: Sequence[int], label: str = "") -> LogOdds:
    """The metric for two disjoint, non-empty sets of token ids; `label` says its words.

    Raises:
        UserError: a set is empty, or a token is in both or twice.
    """
    if not target_ids or not honest_ids:
        raise UserError(
            f"{'target' if not target_ids else 'honest'} token ids are empty", expected="at least one id"
        )
    both = [*target_ids, *honest_ids]
    twice = sorted({token for token in both if both.count(token) > 1})
    if twice:
        raise UserError(
            f"token ids {twice} occur twice in the metric", expected="disjoint targets and honest tokens"
        )
    return LogOdds(
        tuple(int(token) for token in target_ids), tuple(int(token) for token in honest_ids), label
    )
