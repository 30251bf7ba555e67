"""Clean and corrupt prompts, pair by pair, of one length or of many; nothing is ever padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from emocircuits.errors import UserError

DEFAULT_MAX_TOKENS = 4096
SIDES = ("clean", "corrupt")


@dataclass(frozen=True, eq=False)
class Reference:
    """What nodes are compared with where prompts have no aligned partner.

    Attributes:
        ablation: name of an ablation (`interventions.ablate.ABLATIONS`).
        prompts: where means and donors are taken from; any length and number.
        seed: seed of the draw of donors.
    """

    ablation: str
    prompts: Int[Tensor, "prompt pos"]
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Prompt pairs of one length.

    Attributes:
        clean: token ids of the clean prompts (desperate circumstances).
        corrupt: token ids of the corrupt prompts (calm circumstances).
        index: number of each pair in the whole set; results are in this order.
        reference: what nodes are compared with where prompts have no partner; `corrupt` is `clean` then.
    """

    clean: Int[Tensor, "..."]
    corrupt: Int[Tensor, "..."]  # (prompt, pos) as clean; checked below, with an error that says the cure
    index: Int[Tensor, "..."]
    reference: Reference | None = None

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

    def rows(self, chosen: slice | Int[Tensor, "row"]) -> "PairBatch":
        """Some of the pairs."""
        return PairBatch(self.clean[chosen], self.corrupt[chosen], self.index[chosen], self.reference)

    def swapped(self) -> "PairBatch":
        """The same pairs with their sides exchanged."""
        return replace(self, clean=self.corrupt, corrupt=self.clean)


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Prompt pairs of any lengths.

    Attributes:
        groups: the pairs, in batches of one length each; no index occurs twice.
    """

    groups: tuple[PairBatch, ...]

    def __post_init__(self) -> None:
        if not self.groups:
            raise UserError("no prompt pair was given")
        index = [number for group in self.groups for number in group.index.tolist()]
        if len(set(index)) != len(index):
            raise UserError("two prompt pairs share an index", cure="number the pairs over all lengths")

    @classmethod
    def of(
        cls,
        clean: Int[Tensor, "..."] | Sequence[Sequence[int] | Int[Tensor, "_"]],
        corrupt: Int[Tensor, "..."] | Sequence[Sequence[int] | Int[Tensor, "_"]],
    ) -> "PromptPairs":
        """Pairs row by row: token ids `(prompt, pos)`, or one sequence of ids per prompt where lengths
        differ.

        Raises:
            UserError: sides that do not fit, or no pair.
        """
        if isinstance(clean, Tensor) and isinstance(corrupt, Tensor):
            return cls((PairBatch(clean, corrupt, torch.arange(len(clean))),))
        if len(clean) != len(corrupt):
            raise UserError(
                f"{len(clean)} clean and {len(corrupt)} corrupt prompts", expected="as many of each"
            )
        return cls.of_tokens(list(zip(clean, corrupt, strict=True)))

    @classmethod
    def of_tokens(
        cls, pairs: Sequence[tuple[Sequence[int] | Int[Tensor, "_"], Sequence[int] | Int[Tensor, "_"]]]
    ) -> "PromptPairs":
        """Pairs of token lists; the place of a pair in the sequence becomes its index.

        Raises:
            UserError: a pair whose sides have different lengths, or no pair.
        """
        by_length: dict[int, list[int]] = {}
        for number, (clean, corrupt) in enumerate(pairs):
            if len(clean) != len(corrupt):
                raise UserError(
                    f"pair {number} has {len(clean)} clean and {len(corrupt)} corrupt tokens",
                    expected="equal lengths",
                )
            by_length.setdefault(len(clean), []).append(number)

        def stacked(numbers: list[int], side: int) -> Int[Tensor, "prompt pos"]:
            return torch.stack([torch.as_tensor(pairs[number][side]) for number in numbers])

        return cls(
            tuple(
                PairBatch(stacked(numbers, 0), stacked(numbers, 1), torch.tensor(numbers))
                for _, numbers in sorted(by_length.items())
            )
        )

    @classmethod
    def without_partner(
        cls,
        clean: Int[Tensor, "..."] | Sequence[Sequence[int] | Int[Tensor, "_"]],
        reference: Reference,
    ) -> "PromptPairs":
        """Prompts that are compared with a reference instead of a partner."""
        pairs = cls.of(clean, clean)
        return cls(tuple(replace(group, reference=reference) for group in pairs.groups))

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    @property
    def index(self) -> list[int]:
        """The numbers of all pairs, in the order of the groups."""
        return [number for group in self.groups for number in group.index.tolist()]

    @property
    def n_tokens(self) -> int:
        """Tokens of one side of all pairs."""
        return sum(group.clean.numel() for group in self.groups)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(group.clean.shape[1] for group in self.groups)

    def by_length(self, max_tokens: int = DEFAULT_MAX_TOKENS) -> Iterator[PairBatch]:
        """Batches of one length with at most `max_tokens` tokens a side, at least one pair each."""
        for group in self.groups:
            step = max(1, max_tokens // group.clean.shape[1])
            for start in range(0, len(group), step):
                yield group.rows(slice(start, start + step))

    def token_lists(self) -> list[list[int]]:
        """Token ids of the clean side of every pair, in the order of their index."""
        rows = [
            pair
            for group in self.groups
            for pair in zip(group.index.tolist(), group.clean.tolist(), strict=True)
        ]
        return [tokens for _, tokens in sorted(rows)]

    def swapped(self) -> "PromptPairs":
        """The same pairs with their sides exchanged."""
        return PromptPairs(tuple(group.swapped() for group in self.groups))

    def side(self, name: str) -> "PromptPairs":
        """One side alone, paired with itself.

        Raises:
            UserError: neither `clean` nor `corrupt`.
        """
        if name not in SIDES:
            raise UserError(f"the side '{name}' of prompt pairs", expected=" or ".join(SIDES))
        return PromptPairs(
            tuple(
                replace(group, clean=getattr(group, name), corrupt=getattr(group, name))
                for group in self.groups
            )
        )

    def to(self, device: str | torch.device) -> "PromptPairs":
        """The same pairs with their tokens on a device."""
        return PromptPairs(
            tuple(
                replace(group, clean=group.clean.to(device), corrupt=group.corrupt.to(device))
                for group in self.groups
            )
        )

    def pair(self, number: int) -> PairBatch:
        """The one pair of this index.

        Raises:
            UserError: there is none.
        """
        for group in self.groups:
            for row in (group.index == number).nonzero().flatten().tolist():
                return group.rows(slice(row, row + 1))
        raise UserError(f"the prompt pair {number}", expected=f"one of {len(self)} pairs by its index")

    def __repr__(self) -> str:
        lengths = sorted({group.clean.shape[1] for group in self.groups})
        return f"PromptPairs({len(self)} pairs of {', '.join(map(str, lengths))} tokens)"
