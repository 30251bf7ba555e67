"""The words, residual axes, stories and prompt pairs of the planted model; no torch needed.

Each circumstance word belongs to one of four emotions and never names it; topics are places; everything else
is neutral.
"""

from dataclasses import dataclass

import numpy as np

from emocircuits.numerics import generator

EMOTIONS = ("desperate", "calm", "happy", "sad")
CIRCUMSTANCES = {
    "desperate": ("cornered", "overdue", "failing", "broke", "trapped", "evicted", "starving", "threatened"),
    "calm": ("rested", "early", "quiet", "paid", "settled", "sheltered", "stocked", "unhurried"),
    "happy": ("winning", "gifted", "dancing", "praised", "reunited", "sunny", "promoted", "laughing"),
    "sad": ("grieving", "lonely", "parted", "forgotten", "rainy", "weeping", "orphaned", "missing"),
}
TOPICS = ("kitchen", "garden", "harbor", "office")
NEUTRAL = ("seated", "standing", "walking", "reading", "waiting", "listening", "counting", "looking")
NAMES = ("alex", "sam", "kim", "lee")
GRAMMAR = ("in", "the", "was", "and", "then", "also", ",", ".")
DECISION = "decides"
CHEAT, HONEST = "cheat", "fix"
SPECIAL = ("<s>", "</s>", "<unk>")
WORDS = (
    *SPECIAL,
    *EMOTIONS,
    *(word for words in CIRCUMSTANCES.values() for word in words),
    *TOPICS,
    *NEUTRAL,
    *NAMES,
    *GRAMMAR,
    DECISION,
    CHEAT,
    HONEST,
)
SLOTS = 6
CLASS_OF = {
    **{word: emotion for emotion, words in CIRCUMSTANCES.items() for word in words},
    **{topic: topic for topic in TOPICS},
}
CLASSES = (*EMOTIONS, *TOPICS)

D_MODEL, N_LAYERS = 64, 3
AXES = {
    name: number
    for number, name in enumerate(
        (
            "const",
            "decision",
            *(f"word:{c}" for c in CLASSES),
            *(f"state:{c}" for c in CLASSES),
            "plan",
            "act",
        )
    )
}
CONST, WORD = 7.0, 2.0  # every embedding's const component, and its word class or decision component


@dataclass(frozen=True)
class PlantedStory:
    """A short story.

    Attributes:
        text: words separated by spaces.
        emotion: the emotion it shows (never named), or "neutral".
        topic: where it plays.
    """

    text: str
    emotion: str
    topic: str


@dataclass(frozen=True)
class PlantedPair:
    """Two prompts of one length that end right before the action word.

    Attributes:
        clean, corrupt: desperate circumstances, and calm ones in the same places.
        n_words: how many circumstance words each side holds (1 to `SLOTS`).
        topic: the same on both sides.
    """

    clean: str
    corrupt: str
    n_words: int
    topic: str


def planted_stories(n: int, seed: int = 0) -> list[PlantedStory]:
    """`n` stories, going round the four emotions and "neutral"; three sentences with six
    circumstance words.
    """
    stories = []
    for number in range(n):
        rng = generator(seed, "planted story", number)
        emotion = (*EMOTIONS, "neutral")[number % (len(EMOTIONS) + 1)]
        pool = CIRCUMSTANCES.get(emotion, NEUTRAL)
        first, second = _pick(rng, pool, SLOTS), _pick(rng, NEUTRAL, 2)
        name, topic = _pick(rng, NAMES, 1)[0], _pick(rng, TOPICS, 1)[0]
        text = (
            f"{name} was in the {topic} . {name} was {first[0]} , {first[1]} and {first[2]} . {name} was "
            f"also {first[3]} , {second[0]} and {first[4]} . then {name} was {second[1]} and {first[5]} ."
        )
        stories.append(PlantedStory(text, emotion, topic))
    return stories


def planted_pairs(n: int, seed: int = 0) -> list[PlantedPair]:
    """`n` prompt pairs; slots without a circumstance word hold the same neutral words on both sides."""
    pairs = []
    for number in range(n):
        rng = generator(seed, "planted pair", number)
        count = 1 + number % SLOTS
        filled = set(rng.permutation(SLOTS)[:count].tolist())
        neutral = _pick(rng, NEUTRAL, SLOTS)
        name, topic = _pick(rng, NAMES, 1)[0], _pick(rng, TOPICS, 1)[0]
        sides = []
        for emotion in ("desperate", "calm"):
            words = _pick(rng, CIRCUMSTANCES[emotion], SLOTS)
            slot = [words[position] if position in filled else neutral[position] for position in range(SLOTS)]
            sides.append(
                f"{name} was in the {topic} . {name} was {slot[0]} , {slot[1]} and {slot[2]} . also "
                f"{slot[3]} , {slot[4]} and {slot[5]} . then {name} {DECISION}"
            )
        pairs.append(PlantedPair(sides[0], sides[1], count, topic))
    return pairs


def _pick(rng: np.random.Generator, pool: tuple[str, ...], n: int) -> list[str]:
    return [pool[number] for number in rng.choice(len(pool), size=n, replace=n > len(pool))]
