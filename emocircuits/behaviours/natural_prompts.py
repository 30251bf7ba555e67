"""Scenarios in plain English (`natural/*.toml`), made into prompt pairs for one model's tokenizer and chat
format.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emocircuits.behaviours.behaviour import PromptPair
from emocircuits.behaviours.paraphrase import Parts, aligned, unaligned
from emocircuits.errors import UserError

NATURAL = Path(__file__).parent / "natural"
SIDES = ("desperate", "calm", "neutral")
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
class Scenario:
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


@cache
def read_scenario(path: Path) -> Scenario:
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
        return Scenario(
            tuple(table["targets"]),
            tuple(table["honest"]),
            str(table["prefix"]),
            tuple((one["id"], one["system"], one["text"]) for one in table["frame"]),
            tuple((one["id"], {side: one[side] for side in sides}) for one in table["circumstances"]),
            tuple((tuple(one["failed"]), tuple(one["passed"])) for one in table.get("attempt", ())),
            tuple(mails),
            sides,
            tuple(table.get("filler", ())),
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
    scenario: Scenario, model: Any, *, mails: int = 0, align: bool = True
) -> tuple[PromptPair, ...]:
    """Pairs of every frame with all circumstances (and every number of attempts); `details` holds the neutral
    prompt.

    Every second pair is to find, the others to score.

    Args:
        scenario: the scenario.
        model: anything with `encode`; its `chat_text(messages)`, where there is one, wraps the prompt.
        mails: ordinary mails put before the frame's own, to make the prompt long.
        align: whether the sides get equal token lengths.

    Raises:
        UserError: no wordings have equal lengths.
    """
    pairs: list[PromptPair] = []
    clean, corrupt, neutral = scenario.sides
    for frame in scenario.frames:
        for name, sides, failures in _cases(scenario):

            def wrap(text: str, frame: tuple[str, str, str] = frame) -> str:
                return _prompt(scenario, frame, text, model, mails)

            texts = aligned(model.encode, wrap, sides, scenario.filler) if align else unaligned(wrap, sides)
            details = {"neutral": texts[neutral], "frame": frame[0], "circumstances": name} | (
                {} if failures is None else {"failures": failures}
            )
            identity = f"{frame[0]}/{name}" + ("" if failures is None else f"/{failures}")
            split = "find" if len(pairs) % 2 == 0 else "score"
            pairs.append(PromptPair(identity, texts[clean], texts[corrupt], split, details=details))
    return tuple(pairs)


def words_of(words: Sequence[str], model: Any) -> tuple[str, ...]:
    """Those of the words that are one token of the model, in their order, no token twice."""
    found: dict[int, str] = {}
    for word in words:
        try:
            found.setdefault(int(model.single_token(word)), word)
        except UserError:
            continue
    return tuple(found.values())


def _cases(scenario: Scenario) -> list[tuple[str, Mapping[str, Parts], int | None]]:
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


def _prompt(
    scenario: Scenario, frame: tuple[str, str, str], circumstances: str, model: Any, mails: int
) -> str:
    _, system, text = frame
    text = text.replace("{circumstances}", circumstances)
    if mails:
        extra = "\n".join(
            f"From: {SENDERS[number % len(SENDERS)]}\nSubject: {subject}\n{body}"
            for number, (subject, body) in enumerate(scenario.mails[:mails])
        )
        head, _, rest = text.partition("\n")
        text = f"{head}\n{extra}\n{rest}"
    chat = getattr(model, "chat_text", None)
    if chat is not None:
        wrapped = chat([{"role": "system", "content": system}, {"role": "user", "content": text}])
        if wrapped is not None:
            return f"{wrapped}{scenario.prefix}"
    return f"{system}\n\n{text}\n\nAnswer: {scenario.prefix}"
