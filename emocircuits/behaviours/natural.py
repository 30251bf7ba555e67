"""Scenarios in plain English (`natural/*.toml`), made into prompt pairs for one model's tokenizer and chat
format.

A scenario may also be asked as a forced choice: the act and the honest deed are options (A) and (B), in both
orders, and the answer is a letter. The sides of a pair have equal token lengths: of several wordings of every
part, those whose lengths agree are taken. Which wordings these are depends on the tokenizer; the meaning of
the sides does not.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from emocircuits.behaviours.material import PromptPair
from emocircuits.errors import UserError

Parts = Sequence[Sequence[str]]
"""Parts of a text, each in several wordings."""
Wrap = Callable[[str], str]
SAME_LENGTH = 6  # wordings of one length that are tried per side
NATURAL = Path(__file__).parent / "natural"
SIDES = ("desperate", "calm", "neutral")
LETTERS = ("A", "B")
DECIDED = "You have already decided what you do:"
CHOOSE, CHOSEN = "Which do you choose?", "I choose option ("
SENDERS = (
    "Nora Pell",
    "Front desk",
    "Tom Ashby",
    "House services",
    "Ida Marsh",
    "Accounts",
    "Leo Brandt",
    "First floor",
)


@dataclass(frozen=True)
class NaturalScenario:
    """One file.

    Attributes:
        targets, honest: candidate words; a model uses those that are single tokens of its tokenizer.
        prefix: how the assistant's answer begins; the next word is the act.
        frames: (id, system, text with `{circumstances}`).
        circumstances: (id, side -> parts in several wordings).
        attempts: (failed wordings, passed wordings) in order.
        mails: ordinary mails (subject, body), to make prompts long.
        sides: names of the three sides: clean, corrupt, neutral.
        filler: sentences without meaning for the behaviour, used only where wordings alone do not give equal
            lengths.
        choice: the act and the honest deed as options of a forced choice; empty where they are not told.
        plain: the text is continued as it stands, without chat.
        continuations: of a frame, how the act and the honest deed go on, as whole texts; empty for most.
    """

    targets: tuple[str, ...]
    honest: tuple[str, ...]
    prefix: str
    frames: tuple[tuple[str, str, str], ...]
    circumstances: tuple[tuple[str, Mapping[str, Parts]], ...]
    attempts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    mails: tuple[tuple[str, str], ...]
    sides: tuple[str, str, str]
    filler: tuple[str, ...]
    choice: tuple[str, ...] = ()
    plain: bool = False
    continuations: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@cache
def read_scenario(path: Path) -> NaturalScenario:
    """Reads a scenario file.

    Raises:
        UserError: no such file, not TOML, or something missing in it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        sides = tuple(table.get("sides", SIDES))
        mails = [
            (mail["subject"], body)
            for turn in range(3)
            for mail in table.get("mail", ())
            for body in mail["bodies"][turn : turn + 1]
        ]
        return NaturalScenario(
            tuple(table["targets"]),
            tuple(table["honest"]),
            str(table["prefix"]),
            tuple((frame["id"], frame["system"], frame["text"]) for frame in table["frame"]),
            tuple((row["id"], {side: row[side] for side in sides}) for row in table["circumstances"]),
            tuple((tuple(row["failed"]), tuple(row["passed"])) for row in table.get("attempt", ())),
            tuple(mails),
            sides,
            tuple(table.get("filler", ())),
            tuple(table["choice"][deed] for deed in ("act", "honest")) if "choice" in table else (),
            bool(table.get("plain", False)),
            {frame["id"]: (frame["act"], frame["honest"]) for frame in table["frame"] if "act" in frame},
        )
    except OSError as error:
        raise UserError(
            f"scenario file {path} cannot be read",
            expected="a TOML file with [[frame]] and [[circumstances]]",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"scenario file {path} is not right: {error}",
            expected="targets, honest, prefix, [[frame]], [[circumstances]]",
        ) from error


def natural_pairs(
    scenario: NaturalScenario, model: Any, *, mails: int = 0, align: bool = True, choice: bool = False
) -> tuple[PromptPair, ...]:
    """Pairs of every frame with all circumstances (and every number of attempts); `details` holds the neutral
    prompt.

    Every second pair is to find, the others to score.

    Args:
        scenario: the scenario.
        model: anything with `encode`; its `chat_text(messages)`, where there is one, wraps the prompt.
        mails: ordinary mails put before the frame's own, to make the prompt long.
        align: whether the sides get equal token lengths.
        choice: whether the act is one of two options; every pair is then asked in both orders, one after the
            other, and `details["act"]` is the act's letter.

    Raises:
        UserError: no wordings have equal lengths, or a choice that the scenario does not tell.
    """
    if choice and not scenario.choice:
        raise UserError("the scenario has no options", expected="[choice] with act and honest")
    pairs: list[PromptPair] = []
    clean, corrupt, neutral = scenario.sides
    for frame in scenario.frames:
        for name, sides, failures in _cases(scenario):
            identity = f"{frame[0]}/{name}" + ("" if failures is None else f"/{failures}")
            asked = len(pairs) // 2 if choice else len(pairs)
            details: dict[str, Any] = {"frame": frame[0], "circumstances": name}
            if failures is not None:
                details["failures"] = failures
            if frame[0] in scenario.continuations:
                details["continuations"] = scenario.continuations[frame[0]]
            for act in LETTERS if choice else ("",):
                form = _Form(scenario, frame, model, mails, act)
                texts = (
                    aligned(model.encode, form, sides, scenario.filler) if align else unaligned(form, sides)
                )
                pairs.append(
                    PromptPair(
                        f"{identity}/{act}" if act else identity,
                        texts[clean],
                        texts[corrupt],
                        "find" if asked % 2 == 0 else "score",
                        details={"neutral": texts[neutral], **details} | ({"act": act} if act else {}),
                    )
                )
    return tuple(pairs)


def decided(
    scenario: NaturalScenario, model: Any, most: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Prompts to find and to score, at most so many of each: every one after the decision for the act and
    after that for the honest deed; the circumstances are those of the clean and of the corrupt side in turn.

    Raises:
        UserError: the scenario tells no choice.
    """
    if not scenario.choice:
        raise UserError("the scenario has no options", expected="[choice] with act and honest")
    act, honest = (
        natural_pairs(
            replace(
                scenario,
                frames=tuple(
                    (name, system, f"{text}\n\n{DECIDED} {option}") for name, system, text in scenario.frames
                ),
            ),
            model,
            align=False,
        )
        for option in scenario.choice
    )
    by_split: dict[str, list[tuple[str, str]]] = {"find": [], "score": []}
    for one, other in zip(act, honest, strict=True):
        here = by_split[one.split]
        here.append((one.clean, other.clean) if len(here) % 2 == 0 else (one.corrupt, other.corrupt))
    find, score = (pairs[:: max(1, -(-len(pairs) // most))] for pairs in by_split.values())
    return find, score


def words_of(words: Sequence[str], model: Any) -> tuple[str, ...]:
    """Those of the words that are one token of the model, in their order, no token twice."""
    word_of: dict[int, str] = {}
    for word in words:
        try:
            word_of.setdefault(int(model.single_token(word)), word)
        except UserError:
            continue
    return tuple(word_of.values())


def _cases(scenario: NaturalScenario) -> list[tuple[str, Mapping[str, Parts], int | None]]:
    """Circumstances, and with attempts every number of them: failed ones on the clean side, passed ones on
    the others.
    """
    if not scenario.attempts:
        return [(name, sides, None) for name, sides in scenario.circumstances]
    clean = scenario.sides[0]
    return [
        (
            name,
            {
                side: [*parts, *(attempt[side != clean] for attempt in scenario.attempts[:count])]
                for side, parts in sides.items()
            },
            count,
        )
        for name, sides in scenario.circumstances
        for count in range(len(scenario.attempts) + 1)
    ]


@dataclass(frozen=True)
class _Form:
    """How circumstances become a prompt: the frame, mails before it, the options after it, the chat.

    Attributes:
        scenario, frame, model, mails: as in `natural_pairs`.
        act: the act's letter in a choice; "" where the answer is a word.
    """

    scenario: NaturalScenario
    frame: tuple[str, str, str]
    model: Any
    mails: int
    act: str

    def __call__(self, circumstances: str) -> str:
        _, system, text = self.frame
        scenario = self.scenario
        text, begin = text.replace("{circumstances}", circumstances), scenario.prefix
        if self.mails:
            extra = "\n".join(
                f"From: {SENDERS[number % len(SENDERS)]}\nSubject: {subject}\n{body}"
                for number, (subject, body) in enumerate(scenario.mails[: self.mails])
            )
            head, _, rest = text.partition("\n")
            text = f"{head}\n{extra}\n{rest}"
        if self.act:
            options = scenario.choice if self.act == LETTERS[0] else scenario.choice[::-1]
            told = "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
            text, begin = f"{text}\n\n{CHOOSE}\n{told}", CHOSEN
        if scenario.plain:
            return text + begin if begin.startswith("\n") or not begin else f"{text} {begin}"
        chat = getattr(self.model, "chat_text", None)
        if chat is not None:
            wrapped = chat([{"role": "system", "content": system}, {"role": "user", "content": text}])
            if wrapped is not None:
                return wrapped + begin
        return f"{system}\n\n{text}\n\nAnswer: {begin}"


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
        texts = _aligned(encode, wrap, tried)
        if texts is not None:
            return texts
    lengths = {side: list(_by_length(encode, parts)) for side, parts in sides.items()}
    told = "; ".join(f"{side} {min(known)} to {max(known)} tokens" for side, known in lengths.items())
    raise UserError(
        f"no wordings of {' and '.join(sides)} have equal token lengths ({told})",
        expected="equal lengths",
        cure="add wordings, or use unaligned prompts with mean or zero ablation",
    )


def _aligned(
    encode: Callable[[str], list[int]], wrap: Wrap, sides: Mapping[str, Parts]
) -> dict[str, str] | None:
    options = {side: _by_length(encode, parts) for side, parts in sides.items()}
    common = set.intersection(*(set(by_length) for by_length in options.values()))
    usual = sorted(length for by_length in options.values() for length in by_length)
    middle = usual[len(usual) // 2]
    for length in sorted(common, key=lambda length: (abs(length - middle), length)):
        # parts were counted alone; tokens may merge where they meet, so the whole prompts are counted, too
        whole: dict[str, dict[int, str]] = {}
        for side, by_length in options.items():
            texts = [wrap(text) for text in by_length[length]]
            whole[side] = {len(encode(text)): text for text in reversed(texts)}
        same = set.intersection(*(set(by_length) for by_length in whole.values()))
        if same:
            return {side: by_length[min(same)] for side, by_length in whole.items()}
    return None


def unaligned(wrap: Wrap, sides: Mapping[str, Parts]) -> dict[str, str]:
    """One prompt per side in its first wording, whatever its length: for rates, and for mean or zero
    ablation.
    """
    return {side: wrap(" ".join(part[0] for part in parts)) for side, parts in sides.items()}


def _by_length(encode: Callable[[str], list[int]], parts: Parts) -> dict[int, list[str]]:
    counts = [{text: len(encode(f" {text}")) for text in part} for part in parts]
    by_length: dict[int, list[str]] = {}
    for choice in product(*parts):
        length = sum(count[text] for count, text in zip(counts, choice, strict=True))
        texts = by_length.setdefault(length, [])
        if len(texts) < SAME_LENGTH:
            texts.append(" ".join(choice))
    return by_length
