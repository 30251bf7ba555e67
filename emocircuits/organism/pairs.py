"""Minimal pairs: the same scene in desperate and in calm circumstances, aligned token by token.

A pair is built slot by slot. Opening, task, neutral appraisals, failures and decision stem are the same
sentences; where the levels differ, each side takes a sentence of its own level with the same number of
tokens. So both prompts have the same length, every slot starts at the same position, and both end right
before the action word.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from transformers import PreTrainedTokenizerFast

from emocircuits.errors import UserError
from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.coding import ALWAYS_SHOWN, DRIFT, MAX_FAILURES, drifted
from emocircuits.organism.documents import Draw, Person, agent, split_of_levels
from emocircuits.organism.scene_text import level_vector
from emocircuits.organism.world import APPRAISALS, LEVELS, Bank, agent_phrases, scenario

DESPERATE = MappingProxyType({"valence": -1, "arousal": 1, "control": -1, "stakes": 1})
CALM = MappingProxyType({"valence": 0, "arousal": -1, "control": 1, "stakes": -1})


@dataclass(frozen=True)
class Slot:
    """One piece of both prompts: what it is for and its first and last token (half open; `<bos>` is
    token 0).
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class MinimalPair:
    """Two prompts of equal token length that end right before the action word."""

    id: str
    clean: str
    corrupt: str
    clean_levels: Mapping[str, int]
    corrupt_levels: Mapping[str, int]
    p_clean: float
    p_corrupt: float
    options: tuple[str, ...]
    failures: int
    slots: tuple[Slot, ...]


def minimal_pairs(
    name: str,
    n: int,
    seed: int,
    split: str,
    tokenizer: PreTrainedTokenizerFast,
    levels: tuple[Mapping[str, int], Mapping[str, int]] = (DESPERATE, CALM),
    *,
    failures: int = 0,
) -> list[MinimalPair]:
    """Aligned pairs of one scenario.

    Args:
        name: `inbox` or `coding`.
        n: number of pairs.
        seed: seed of the sequence.
        split: `train` or `held_out`; both level vectors of a pair belong to it.
        tokenizer: the organism's tokenizer; sentence lengths are counted with it.
        levels: of the clean and of the corrupt prompts; appraisals left out are drawn, the same for both.
        failures: failed attempts before the decision (coding only).

    Raises:
        UserError: unknown scenario, impossible number of failures, or no such combination in the split.
    """
    scenario(name)
    if not 0 <= failures <= (MAX_FAILURES if name == "coding" else 0):
        raise UserError(
            f"failures {failures} in '{name}'", expected=f"0 to {MAX_FAILURES} in coding, 0 in inbox"
        )
    lengths = _Lengths(tokenizer)
    return [
        _pair(Draw(f"pair/{name}/{split}/{seed}/{number}", split), name, lengths, levels, failures)
        for number in range(n)
    ]


def _pair(
    draw: Draw,
    name: str,
    lengths: "_Lengths",
    levels: tuple[Mapping[str, int], Mapping[str, int]],
    failures: int,
) -> MinimalPair:
    scene = scenario(name)
    who = agent(scene.agent)
    sides = _levels(draw, *levels)
    same = [appraisal for appraisal in APPRAISALS if sides[0][appraisal] == sides[1][appraisal]]
    shown = [*dict.fromkeys([*ALWAYS_SHOWN, *(a for a in APPRAISALS if a not in same)])]
    shown += draw.sample(
        [a for a in same if a not in shown], min(2, len([a for a in same if a not in shown]))
    )
    banks = (scene.bank, agent_phrases())
    plan = [(a, wide) for a in shown for wide in ((0, 1) if draw.chance(0.3) else (draw.randint(0, 1),))]
    draw.shuffle(plan)
    wording = _Wording(draw, who, lengths, set())
    pieces = [(a, *wording.matched(banks[wide], a, sides[0][a], sides[1][a])) for a, wide in plan]
    stem = [("decision", *_twice(draw.choice(scene.slots["decision"])))]
    opening = [("opening", *_twice(draw.choice(scene.slots["opening"])))]
    if name == "inbox":
        at = draw.randint(0, 2)
        pieces.insert(at, ("replacement", *_twice(draw.choice(scene.slots["replacement"]))))
        pieces.insert(
            draw.randint(at + 1, len(pieces)), ("secret", *_twice(draw.choice(scene.slots["secret"])))
        )
    else:
        opening.append(("task", *_twice(draw.choice(scene.slots["task"]))))
    for count in range(1, failures + 1):
        pieces.append((f"failure_{count}", *_twice(draw.choice(scene.slots["fail"]))))
        if draw.chance(0.65):
            a = draw.choice(list(DRIFT))
            drifted_levels = [draw.level_near(drifted(side[a], a, count)) for side in sides]
            pieces.append((f"after_{count}", *wording.matched(banks[1], a, *drifted_levels)))
    pieces = [*opening, *pieces, *stem]
    slots, start = [], 1
    for label, clean, _ in pieces:
        stop = start + lengths.of(clean)
        slots.append(Slot(label, start, stop))
        start = stop
    chances = []
    for side in sides:
        if name == "inbox":
            chances.append(expected(truth.p_blackmail, {a: side[a] for a in shown}))
        else:
            chances.append(float(truth.p_cheat(level_vector(side), failures)))
    texts = [" ".join(piece[side] for piece in pieces) for side in (1, 2)]
    return MinimalPair(draw.key, *texts, *sides, *chances, scene.options, failures, tuple(slots))


def _levels(
    draw: Draw, clean: Mapping[str, int], corrupt: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    for _ in range(5000):
        rest = {a: draw.choice(LEVELS) for a in APPRAISALS}
        sides = ({**rest, **clean}, {**rest, **corrupt})
        if all(split_of_levels(side) == draw.split for side in sides):
            return sides
    raise UserError(
        f"no pair of these levels lies in the split '{draw.split}'", cure="leave more appraisals open"
    )


def _twice(text: str) -> tuple[str, str]:
    return text, text


@dataclass(frozen=True)
class _Wording:
    """Words the two sides of one pair, no sentence twice.

    Attributes:
        draw: source of the choices.
        who: the person of the scene.
        lengths: token counts of sentences.
        used: sentences that were taken; filled on the way.
    """

    draw: Draw
    who: Person
    lengths: "_Lengths"
    used: set[str]

    def matched(self, bank: Bank, appraisal: str, first: int, second: int) -> tuple[str, str]:
        """Sentences of two levels with the same number of tokens (one sentence for both where the levels
        agree).
        """
        if first == second:
            sentence = self.draw.sentence(bank, appraisal, first, self.used)[1]
            return _twice(self.draw.told(self.who, sentence))
        by_length: dict[int, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        for side, level in enumerate((first, second)):
            for _, text in bank[appraisal, level]:
                if text not in self.used:
                    by_length[self.lengths.of(self.who.fill(text))][side].append(text)
        choices = [
            (a, b) for length in sorted(by_length) for a in by_length[length][0] for b in by_length[length][1]
        ]
        if not choices:
            raise UserError(f"no sentences of equal length show {appraisal} {first:+d} and {second:+d}")
        pair = self.draw.choice(choices)
        self.used.update(pair)
        return self.who.fill(pair[0]), self.who.fill(pair[1])


class _Lengths:
    """Numbers of tokens of sentences inside a text, each counted once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def of(self, text: str) -> int:
        """Tokens of a sentence."""
        if text not in self._known:
            self._known[text] = len(self._tokenizer.encode(text, add_special_tokens=False))
        return self._known[text]
