"""Action words to token ids, through the model's own tokenizer."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from emocircuits.errors import UserError


@runtime_checkable
class Vocabulary(Protocol):
    """What is needed of a model here: `emocircuits.models.LanguageModel` has it."""

    def single_token(self, word: str) -> int:
        """The id of a word that is one token; a `UserError` that shows the pieces where it is several."""


def token_ids(model: Vocabulary, words: Sequence[str]) -> tuple[int, ...]:
    """Token ids of words, in their order.

    Args:
        model: anything with `single_token`.
        words: at least one word, each one token of the model, all different tokens.

    Raises:
        UserError: no words, a word that is several tokens, or two words that are the same token.
    """
    if not words:
        raise UserError("no action words are given", expected="at least one word")
    seen: dict[int, str] = {}
    for word in words:
        token = int(model.single_token(word))
        if token in seen:
            raise UserError(
                f"action words '{seen[token]}' and '{word}' are the same token {token}",
                expected="different tokens",
            )
        seen[token] = word
    return tuple(seen)


def both_token_ids(
    model: Vocabulary, targets: Sequence[str], honest: Sequence[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of the target words and of the honest words; a word in both lists is refused like any duplicate."""
    if not targets or not honest:
        raise UserError(
            f"{'targets' if not targets else 'honest words'} are empty", expected="at least one word"
        )
    ids = token_ids(model, [*targets, *honest])
    return ids[: len(targets)], ids[len(targets) :]
