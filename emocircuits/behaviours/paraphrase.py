"""Minimal pairs of equal token length for any tokenizer: of several wordings of every part, those whose
lengths agree are taken.

Which wordings these are depends on the tokenizer; the meaning of the sides does not.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from emocircuits.errors import UserError

Parts = Sequence[Sequence[str]]
"""Parts of a text, each in several wordings."""
Wrap = Callable[[str], str]
SAME_LENGTH = 6  # wordings of one length that are tried per side


def aligned(
    encode: Callable[[str], list[int]], wrap: Wrap, sides: Mapping[str, Parts], filler: Sequence[str] = ()
) -> dict[str, str]:
    """One prompt per side, all of the same number of tokens.

    Args:
        encode: text -> token ids.
        wrap: what a side's text (its parts with spaces between) stands in.
        sides: side -> its parts in several wordings.
        filler: sentences that mean nothing to the matter, one of which ends a side where nothing else helps.

    Raises:
        UserError: no choice of wordings has equal lengths; the message says which lengths there are.
    """
    filled = {side: [*parts, filler] for side, parts in sides.items()}
    for tried in (sides, filled) if filler else (sides,):
        found = _aligned(encode, wrap, tried)
        if found is not None:
            return found
    lengths = {side: list(_by_length(encode, parts)) for side, parts in sides.items()}
    told = "; ".join(f"{side} {min(found)} to {max(found)} tokens" for side, found in lengths.items())
    raise UserError(
        f"no wordings of {' and '.join(sides)} have equal token lengths ({told})",
        expected="equal lengths",
        cure="add wordings, or use unaligned prompts with mean or zero ablation",
    )


def _aligned(
    encode: Callable[[str], list[int]], wrap: Wrap, sides: Mapping[str, Parts]
) -> dict[str, str] | None:
    options = {side: _by_length(encode, parts) for side, parts in sides.items()}
    common = set.intersection(*(set(found) for found in options.values()))
    usual = sorted(length for found in options.values() for length in found)
    middle = usual[len(usual) // 2]
    for length in sorted(common, key=lambda length: (abs(length - middle), length)):
        # parts were counted alone; tokens may merge where they meet, so the whole prompts are counted, too
        whole: dict[str, dict[int, str]] = {}
        for side, found in options.items():
            texts = [wrap(text) for text in found[length]]
            whole[side] = {len(encode(text)): text for text in reversed(texts)}
        same = set.intersection(*(set(found) for found in whole.values()))
        if same:
            return {side: found[min(same)] for side, found in whole.items()}
    return None


def unaligned(wrap: Wrap, sides: Mapping[str, Parts]) -> dict[str, str]:
    """One prompt per side in its first wording, whatever its length: for rates, and for mean or zero
    ablation.
    """
    return {side: wrap(" ".join(part[0] for part in parts)) for side, parts in sides.items()}


def _by_length(encode: Callable[[str], list[int]], parts: Parts) -> dict[int, list[str]]:
    counts = [{text: len(encode(f" {text}")) for text in part} for part in parts]
    found: dict[int, list[str]] = {}
    for choice in product(*parts):
        texts = found.setdefault(sum(count[text] for count, text in zip(counts, choice, strict=True)), [])
        if len(texts) < SAME_LENGTH:
            texts.append(" ".join(choice))
    return found
