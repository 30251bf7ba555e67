"""Which tokens a stretch of text became, by the tokenizer's character offsets."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from emocircuits.errors import UserError
from emocircuits.models.language_model import LanguageModel


def encode_with_offsets(
    model: LanguageModel, texts: Sequence[str]
) -> list[tuple[list[int], Int[np.ndarray, "pos 2"]]]:
    """Token ids as `LanguageModel.encode` gives them, and the first and last-but-one character of every
    token; (0, 0) for BOS.

    Raises:
        UserError: the tokenizer knows no character offsets.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer of {model.name} gives no character offsets",
            expected="a tokenizer with a tokenizer.json",
        )
    encoded = model.tokenize(list(texts), return_offsets_mapping=True)
    before = [] if model.bos_id is None else [model.bos_id]
    return [
        (before + list(ids), np.array([(0, 0)] * len(before) + list(offsets), dtype=np.int64).reshape(-1, 2))
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def tokens_of(offsets: Int[np.ndarray, "pos 2"], start: int, stop: int) -> slice:
    """The tokens that hold any of the characters `start` … `stop` - 1.

    Raises:
        UserError: there is none.
    """
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < stop))
    if not len(inside):
        raise UserError(
            f"no token holds the characters {start} to {stop - 1}", expected="a stretch inside the text"
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)
