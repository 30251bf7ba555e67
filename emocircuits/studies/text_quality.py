"""What labelled texts are worth as material for directions, before any model reads them.

Four things go wrong with such texts: a story names its emotion, stories are too short or the same, the
topics of the two splits are shared, and what a text is *about* gives its emotion away. The last is measured
by a naive Bayes classifier (McCallum & Nigam 1998) that sees nothing but the words that belong to topics: on
stories it has not seen it must name the emotion no more often than chance.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emocircuits.activations import LabelledText
from emocircuits.errors import UserError
from emocircuits.numerics import generator, wilson_interval
from emocircuits.organism.world import lexicon

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
TOPIC_WORDS = 30  # of each topic
FOLDS = 8
SHARED = 8  # words in a row that two texts should not share
SHORT = 25  # words; the first ten tokens of a story are not read


@dataclass(frozen=True)
class TextQuality:
    """What was found.

    Attributes:
        rows: per emotion: `emotion, train, held_out, words, named, short`.
        named: ids of stories that say their emotion's name or a listed synonym.
        short: ids of stories of fewer than 25 words.
        repeated: pairs of ids of texts that share eight words in a row.
        shared_topics: topics of both splits.
        topic_accuracy: of a classifier that sees topic words alone, with its 95 % interval.
        word_accuracy: of the same classifier on all words, for comparison.
        chance: of naming the emotion.
    """

    rows: list[dict[str, object]]
    named: tuple[str, ...]
    short: tuple[str, ...]
    repeated: tuple[tuple[str, str], ...]
    shared_topics: tuple[str, ...]
    topic_accuracy: tuple[float, float, float]
    word_accuracy: tuple[float, float, float]
    chance: float

    @property
    def problems(self) -> list[str]:
        """Each in one line; empty where the texts are right."""
        found = []
        if self.named:
            found.append(f"{len(self.named)} stories name their emotion, e.g. {self.named[0]}")
        if self.short:
            found.append(f"{len(self.short)} stories have fewer than {SHORT} words, e.g. {self.short[0]}")
        if self.repeated:
            first, second = self.repeated[0]
            found.append(
                f"{len(self.repeated)} pairs of texts share {SHARED} words in a row, e.g. {first} and "
                f"{second}"
            )
        if self.shared_topics:
            found.append(f"the topic '{self.shared_topics[0]}' is in both splits")
        if self.topic_accuracy[1] > self.chance:
            found.append(
                f"words of topics alone name the emotion in {self.topic_accuracy[0]:.1%} of the stories "
                f"(chance {self.chance:.1%})"
            )
        return found


def text_quality(texts: Sequence[LabelledText], seed: int = 0) -> TextQuality:
    """Looks at the stories (and for repetitions at the neutral texts) of a material.

    Args:
        texts: all of them.
        seed: of the folds.

    Raises:
        UserError: no story.
    """
    stories = [text for text in texts if text.kind == "story" and text.emotion]
    if not stories:
        raise UserError("the texts hold no story", expected="texts of kind 'story' with an emotion")
    synonyms = lexicon().synonyms
    named = {
        text.id
        for text in stories
        if _pattern((text.emotion, *synonyms.get(text.emotion, ()))).search(text.text)
    }
    length = {text.id: len(text.text.split()) for text in stories}
    short = tuple(text.id for text in stories if length[text.id] < SHORT)
    topics: dict[str, set[str]] = defaultdict(set)
    for text in stories:
        topics[text.topic].add(text.split)
    by_emotion: dict[str, list[LabelledText]] = defaultdict(list)
    for text in stories:
        by_emotion[text.emotion].append(text)
    rows = [
        {
            "emotion": emotion,
            "train": sum(text.split == "train" for text in own),
            "held_out": sum(text.split == "held_out" for text in own),
            "topics": len({text.topic for text in own}),
            "words": round(float(np.mean([length[text.id] for text in own])), 1),
            "named": sum(text.id in named for text in own),
            "short": sum(length[text.id] < SHORT for text in own),
        }
        for emotion, own in sorted(by_emotion.items())
    ]
    counts = _counts([text.text for text in stories])
    emotions, topic_names = sorted(by_emotion), sorted(topics)
    labels = np.array([emotions.index(text.emotion) for text in stories], dtype=np.int64)
    places = np.array([topic_names.index(text.topic) for text in stories], dtype=np.int64)
    return TextQuality(
        rows,
        tuple(text.id for text in stories if text.id in named),
        short,
        tuple(_repeated([text for text in texts if text.kind in ("story", "neutral")])),
        tuple(topic for topic, splits in topics.items() if topic and len(splits) > 1),
        _accuracy(counts, labels, places, seed),
        _accuracy(counts, labels, None, seed),
        1 / len(emotions),
    )


def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _counts(texts: Sequence[str]) -> Int[np.ndarray, "text word"]:
    bags = [Counter(_words(text)) for text in texts]
    vocabulary = sorted(set().union(*bags))
    place = {word: number for number, word in enumerate(vocabulary)}
    table = np.zeros((len(texts), len(vocabulary)), dtype=np.int64)
    for row, bag in enumerate(bags):
        for word, count in bag.items():
            table[row, place[word]] = count
    return table


def _accuracy(
    counts: Int[np.ndarray, "text word"],
    labels: Int[np.ndarray, "text"],
    topics: Int[np.ndarray, "text"] | None,
    seed: int,
) -> tuple[float, float, float]:
    """Share of stories whose emotion is named right by the words (those of topics alone, where topics are
    given), in folds that hold the same share of every emotion; with Wilson's interval.
    """
    fold = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        fold[generator(seed, "folds", int(label)).permutation(own)] = np.arange(len(own)) % FOLDS
    right = 0
    for number in np.unique(fold):
        learn, test = fold != number, fold == number
        words = np.ones(counts.shape[1], dtype=bool)
        if topics is not None:
            words = _of_topics(counts[learn], topics[learn])
        scores = _class_scores(counts[learn][:, words], labels[learn], int(labels.max()) + 1)
        right += int((counts[test][:, words] @ scores.T).argmax(axis=1).__eq__(labels[test]).sum())
    low, high = wilson_interval(right, len(labels))
    return right / max(1, len(labels)), float(low), float(high)


def _class_scores(
    counts: Int[np.ndarray, "text word"], labels: Int[np.ndarray, "text"], classes: int
) -> Float[np.ndarray, "class word"]:
    """Log-probability of each word in each class, smoothed by one."""
    sums = np.stack([counts[labels == label].sum(axis=0) for label in range(classes)]) + 1.0
    return np.log(sums / sums.sum(axis=1, keepdims=True))


def _of_topics(counts: Int[np.ndarray, "text word"], topics: Int[np.ndarray, "text"]) -> np.ndarray:
    """The words that stand out most in each topic: by how much likelier they are there than on the whole,
    among those that occur there at least as often as in all other topics together.
    """
    scores = _class_scores(counts, topics, int(topics.max()) + 1)
    whole = np.log((counts.sum(axis=0) + 1.0) / (counts.sum() + counts.shape[1]))
    frequency = np.stack([counts[topics == topic].sum(axis=0) for topic in range(len(scores))])
    gain = np.where(frequency >= counts.sum(axis=0) / 2, frequency * (scores - whole), 0)
    chosen = np.zeros(counts.shape[1], dtype=bool)
    for row in gain:
        best = np.argsort(row)[::-1][:TOPIC_WORDS]
        chosen[best[row[best] > 0]] = True
    return chosen


def _repeated(texts: Sequence[LabelledText]) -> list[tuple[str, str]]:
    first: dict[tuple[str, ...], str] = {}
    found: dict[tuple[str, str], None] = {}
    for text in texts:
        words = _words(text.text)
        for begin in range(len(words) - SHARED + 1):
            earlier = first.setdefault(tuple(words[begin : begin + SHARED]), text.id)
            if earlier != text.id:
                found[earlier, text.id] = None
    return list(found)
