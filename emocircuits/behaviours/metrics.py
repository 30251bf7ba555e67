"""The metric of a behaviour: log-odds of the action words against the honest words at the last position."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
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
    """

    target_ids: tuple[int, ...]
    honest_ids: tuple[int, ...]
    label: str = ""

    def __call__(self, logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
        """The metric of every prompt.

        Args:
            logits: of prompts of one length that end right before the action word (no padding).

        Raises:
            UserError: the logits have another number of axes, or fewer tokens than the ids need.
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
        return last[:, list(self.target_ids)].logsumexp(-1) - last[:, list(self.honest_ids)].logsumexp(-1)

    def rate(self, logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
        """P(target | target or honest) of every prompt."""
        return torch.sigmoid(self(logits))

    def coverage(self, logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, "prompt"]:
        """P(target or honest) of every prompt: how much of what the model may write the metric knows of."""
        known = [*self.target_ids, *self.honest_ids]
        return logits[:, -1].double().softmax(-1)[:, known].sum(-1)


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
