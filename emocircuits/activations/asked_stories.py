"""Stories that a chat model writes when it is asked to: 171 emotions × 100 everyday topics, the words for the
emotion forbidden.

The form of `story_material.StoryMaterial`, so that writing, filtering, freezing and resuming are the same
(`self_written`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.story_material import Opening, pattern_of
from emocircuits.errors import UserError, unknown
from emocircuits.numerics import generator
from emocircuits.organism.world import lexicon

MATERIAL = Path(__file__).parent / "natural" / "stories.toml"
DIALOGUES = MATERIAL.with_name("dialogues.toml")
SHOWN_WORDS = 6


@dataclass(frozen=True, eq=False)
class AskedMaterial:
    """What a chat model is asked.

    Attributes:
        model: anything with `chat_text`.
        prompts, neutral: requests with `{topic}`, `{feels}` and `{words}`.
        topics: everyday topics; the last share of them is held out.
        forbidden: emotion -> words that may not occur in its stories; "" for neutral texts.
    """

    model: Any
    prompts: tuple[str, ...]
    neutral: tuple[str, ...]
    topics: tuple[str, ...]
    forbidden: Mapping[str, tuple[str, ...]]

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions that can be asked for."""
        return tuple(name for name in self.forbidden if name)

    def check(self, emotions: Sequence[str]) -> tuple[str, ...]:
        """The emotions asked for (all when none is).

        Raises:
            UserError: an unknown emotion, or one asked for twice.
        """
        for emotion in emotions:
            if emotion not in self.emotions:
                raise unknown("emotion", emotion, self.emotions)
        if len(set(emotions)) != len(emotions):
            raise UserError(f"emotions {', '.join(emotions)}", expected="each emotion once")
        return tuple(emotions) or self.emotions

    def names(self, emotion: str, text: str) -> bool:
        """Whether a text holds a word that is forbidden for the emotion ("" for neutral)."""
        return bool(pattern_of(self.forbidden[emotion]).search(text))

    def plan(self, emotion: str, n: int, seed: int, held_out_share: float) -> list[Opening]:
        """The first `n` requests of an emotion ("" for neutral texts); topics go round in an order the seed
        shuffles.

        Topics of the split `held_out` are the same for all emotions, so no topic is in both splits.
        """
        order = generator(seed, "asked topics").permutation(len(self.topics))
        first_held_out = len(self.topics) - max(1, round(held_out_share * len(self.topics)))
        kind, planned = ("story" if emotion else "neutral"), []
        turn = generator(seed, "asked order", emotion).permutation(len(self.topics))
        for index in range(n):
            situation = int(turn[index % len(self.topics)])
            topic = self.topics[int(order[situation])]
            forms = self.prompts if emotion else self.neutral
            words = ", ".join(f'"{word}"' for word in self.forbidden[emotion][:SHOWN_WORDS])
            request = forms[(index + index // len(self.topics)) % len(forms)].format(
                topic=topic, feels=emotion, words=f"the words {words}"
            )
            text = self.model.chat_text([{"role": "user", "content": request}])
            label = LabelledText(
                id=f"{kind}/{emotion + '/' if emotion else ''}{index}",
                text="",
                emotion=emotion,
                topic=topic,
                kind=kind,
                split="held_out" if situation >= first_held_out else "train",
            )
            planned.append(Opening(label, request=text))
        return planned


def asked_material(model: Any, path: Path = MATERIAL) -> AskedMaterial:
    """The requests that come with the package, for one model.

    Raises:
        UserError: the model has no chat format.
    """
    if model.chat_text([{"role": "user", "content": "Hello"}]) is None:
        raise UserError(
            f"the model {model.name} has no chat template, so it cannot be asked for stories",
            expected="an instruction-tuned model",
            cure="use collect.material = 'self_written' for a model of children's stories, "
            "or bring stories as JSONL",
        )
    table, known = _table(path), lexicon()
    forbidden = {
        emotion: tuple(dict.fromkeys((emotion, *known.synonyms[emotion]))) for emotion in known.emotions
    }
    every = tuple(dict.fromkeys(word for words in forbidden.values() for word in words))
    return AskedMaterial(
        model,
        tuple(table["prompts"]),
        tuple(table["neutral"]),
        tuple(table["topics"]),
        {"": every + tuple(table["neutral_forbidden"]), **forbidden},
    )


def neutral_dialogues(
    n: int, seed: int = 0, held_out_share: float = 0.25, path: Path = DIALOGUES
) -> list[LabelledText]:
    """Neutral dialogues of two to four exchanges each; topics are not shared between the splits.

    Raises:
        UserError: more are asked for than there are different ones.
    """
    table = _table(path)
    topics, speakers = table["topic"], table["speakers"]
    first_held_out = len(topics) - max(1, round(held_out_share * len(topics)))
    texts: dict[str, LabelledText] = {}
    for index in range(40 * n):
        if len(texts) == n:
            break
        rng, topic_number = generator(seed, "neutral dialogue", index), index % len(topics)
        turns, (asks, answers) = (
            topics[topic_number]["turns"],
            speakers[int(generator(seed, "speakers", index).integers(len(speakers)))],
        )
        chosen = rng.permutation(len(turns))[: 2 + int(rng.integers(len(turns) - 1))]
        text = "\n".join(
            f"{asks}: {turns[int(turn)][0]}\n{answers}: {turns[int(turn)][1]}" for turn in chosen
        )
        texts.setdefault(
            text,
            LabelledText(
                id=f"dialogue/{index}",
                text=text,
                topic=topics[topic_number]["name"],
                kind="neutral",
                split="held_out" if topic_number >= first_held_out else "train",
            ),
        )
    if len(texts) < n:
        raise UserError(f"{n} neutral dialogues", expected=f"at most about {len(texts)}")
    return list(texts.values())


@cache
def _table(path: Path) -> dict[str, Any]:
    return tomllib.loads(re.sub(r"^\ufeff", "", path.read_text(encoding="utf-8")))
