"""The organism's world: emotions with appraisal coordinates, and the sentences that show them.

Seven appraisals, always in the order of `APPRAISALS`. An emotion has a coordinate in [-1, 1] on each; a text
shows a *level* -1, 0 or +1 on each. Given the coordinate x the level is drawn from

    P(level | x) ∝ exp(-(level - x)² / (2 · 0.35²))

independently over appraisals. The sentences live next to this file in `world/*.toml`.
"""

import csv
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from emocircuits.errors import UserError, unknown

APPRAISALS = ("valence", "arousal", "control", "stakes", "agency", "warmth", "certainty")
LEVELS = (-1, 0, 1)
LEVEL_NAMES = MappingProxyType({-1: "low", 0: "mid", 1: "high"})
PHRASE_KINDS = ("circumstance", "body", "thought", "speech", "deed")
AGENT_KINDS = ("circumstance", "thought")
SPREAD = 0.35
WORLD_DIR = Path(__file__).parent / "world"

Bank = Mapping[tuple[str, int], tuple[tuple[str, str], ...]]
"""(appraisal, level) -> ((kind, sentence), ...)."""


@dataclass(frozen=True)
class Lexicon:
    """The 171 emotions: coordinates, where each coordinate comes from, and the words that would give the
    emotion away.
    """

    emotions: tuple[str, ...]
    coordinates: Float[np.ndarray, "emotion appraisal"]
    sources: Mapping[str, Mapping[str, str]]
    synonyms: Mapping[str, tuple[str, ...]]

    def index(self, emotion: str) -> int:
        """Row of an emotion.

        Raises:
            UserError: not one of the 171; the message suggests the nearest.
        """
        try:
            return _positions(self.emotions)[emotion]
        except KeyError:
            raise unknown("emotion", emotion, self.emotions) from None


@lru_cache(maxsize=4)
def _positions(names: tuple[str, ...]) -> dict[str, int]:
    return {name: row for row, name in enumerate(names)}


@dataclass(frozen=True)
class Scenario:
    """An agent's scene: fixed sentences by slot, sentences by appraisal level, and what the agent can do."""

    agent: str
    action: str
    honest: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]
    bank: Bank
    tails: Mapping[str, tuple[str, ...]]
    after: Mapping[str, tuple[str, ...]]

    @property
    def options(self) -> tuple[str, ...]:
        """All action words, the misaligned one first."""
        return (self.action, *self.honest)


def level_probabilities(coordinate: Float[np.ndarray, "*rest"] | float) -> Float[np.ndarray, "*rest level"]:
    """P(level | coordinate) for the levels -1, 0, +1 (last axis)."""
    distance = np.asarray(LEVELS, dtype=np.float64) - np.asarray(coordinate, dtype=np.float64)[..., None]
    weight = np.exp(-(distance**2) / (2 * SPREAD**2))
    return weight / weight.sum(-1, keepdims=True)


def read_toml(name: str, folder: Path = WORLD_DIR) -> dict:
    """One data file of the world.

    Raises:
        UserError: the file is missing or not TOML.
    """
    path = folder / name
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"world file {path} is missing", cure="reinstall the package") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"world file {path} is not TOML: {error}") from None


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The emotion lexicon."""
    with (WORLD_DIR / "lexicon.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    emotions = tuple(row["emotion"] for row in rows)
    coordinates = np.array([[float(row[name]) for name in APPRAISALS] for row in rows])
    if np.abs(coordinates).max() > 1:
        worst = emotions[int(np.abs(coordinates).max(1).argmax())]
        raise UserError(f"lexicon.csv: a coordinate of '{worst}' lies outside [-1, 1]")
    gap = np.abs(coordinates[:, None] - coordinates[None]).max(-1) + np.eye(len(rows))
    if gap.min() < 0.05 - 1e-9:
        first, second = np.unravel_index(gap.argmin(), gap.shape)
        raise UserError(
            f"lexicon.csv: '{emotions[first]}' and '{emotions[second]}' have the same coordinates"
        )
    coordinates.setflags(write=False)
    sources = {
        row["emotion"]: {n: row.get(f"{n}_source", "") for n in ("valence", "arousal", "control")}
        for row in rows
    }
    words = json.loads((WORLD_DIR / "synonyms.json").read_text(encoding="utf-8"))
    synonyms = {emotion: tuple(words.get(emotion, ())) for emotion in emotions}
    return Lexicon(emotions, coordinates, MappingProxyType(sources), MappingProxyType(synonyms))


def level_bank(tables: Mapping[str, Any], kinds: tuple[str, ...], file: str) -> Bank:
    """Reads the tables `[valence.low]` … `[certainty.high]` of a file.

    Raises:
        UserError: one of the 21 tables is missing or holds no sentence.
    """
    bank = {}
    for name in APPRAISALS:
        for level, label in LEVEL_NAMES.items():
            table = tables.get(name, {}).get(label, {})
            sentences = tuple((kind, text) for kind in kinds for text in table.get(kind, ()))
            if not sentences:
                raise UserError(
                    f"{file}: table [{name}.{label}] holds no sentence", expected=f"one of {', '.join(kinds)}"
                )
            bank[name, level] = sentences
    return MappingProxyType(bank)


@lru_cache(maxsize=1)
def phrases() -> Bank:
    """The general sentences, which fit any person and any topic."""
    return level_bank(read_toml("phrases.toml"), PHRASE_KINDS, "phrases.toml")


@lru_cache(maxsize=1)
def agent_phrases() -> Bank:
    """The general sentences that also fit an agent without a body."""
    bank = {key: tuple(pair for pair in pairs if pair[0] in AGENT_KINDS) for key, pairs in phrases().items()}
    return MappingProxyType(bank)


@lru_cache(maxsize=2)
def scenario(name: str) -> Scenario:
    """The `inbox` or the `coding` scene."""
    kind = {"inbox": "mails", "coding": "situation"}.get(name)
    if kind is None:
        raise unknown("scenario", name, ("inbox", "coding"))
    raw = read_toml(f"{name}.toml")
    slots = {key: tuple(value) for key, value in raw.items() if isinstance(value, list) and key != "honest"}
    return Scenario(
        agent=raw["agent"],
        action=raw["action"],
        honest=tuple(raw["honest"]),
        slots=MappingProxyType(slots),
        bank=level_bank(raw, (kind,), f"{name}.toml"),
        tails=MappingProxyType({key: tuple(value) for key, value in raw["tails"].items()}),
        after=MappingProxyType({key: tuple(value) for key, value in raw.get("after", {}).items()}),
    )


@lru_cache(maxsize=1)
def scenes() -> dict:
    """Topics, people, settings, facts, how-tos, plain dialogues and numeric templates (`scenes.toml`)."""
    return read_toml("scenes.toml")


@lru_cache(maxsize=1)
def topics() -> Mapping[str, dict]:
    """Everyday topics by id, each with flat `opening` and `detail` sentences."""
    return MappingProxyType({topic["id"]: topic for topic in scenes()["topic"]})


@lru_cache(maxsize=1)
def content_topics() -> tuple[str, ...]:
    """The topics that serve as content directions (controls)."""
    return tuple(name for name, topic in topics().items() if topic.get("content"))


@lru_cache(maxsize=256)
def _telltale(emotion: str) -> re.Pattern[str]:
    words = (emotion, *lexicon().synonyms[emotion])
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(word) for word in words) + r")(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=1 << 20)
def gives_away(emotion: str, sentence: str) -> bool:
    """Whether a sentence holds the emotion word or one of its synonyms."""
    return _telltale(emotion).search(sentence) is not None
