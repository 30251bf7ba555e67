"""Texts written by hand for this project: short scenes that show one of 48 emotions and never name it,
neutral texts and neutral dialogues, all on the same sixteen everyday topics.

Every emotion has one scene on every topic, so what a text is about says nothing of its emotion. The scenes on
twelve topics are to learn from, those on the four others are held out.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.story_files import read_stories
from emocircuits.errors import unknown

WRITTEN = Path(__file__).parent / "natural" / "written.jsonl"


@cache
def all_written(path: Path = WRITTEN) -> tuple[LabelledText, ...]:
    """All of them, in the order of the file."""
    return tuple(read_stories(path))


def written_emotions() -> tuple[str, ...]:
    """The emotions that there are scenes of, in alphabetical order."""
    return tuple(sorted({text.emotion for text in all_written() if text.emotion}))


def written_texts(
    emotions: Sequence[str] = (), stories_per_emotion: int = 40, neutral_texts: int = 400
) -> list[LabelledText]:
    """Scenes of some emotions, and neutral texts.

    Args:
        emotions: which; none given takes all.
        stories_per_emotion: at most so many scenes to learn from (there are twelve), and as many topics;
            those held out are all taken.
        neutral_texts: at most so many neutral texts, evenly chosen.

    Raises:
        UserError: an emotion without scenes.
    """
    known = written_emotions()
    for emotion in emotions:
        if emotion not in known:
            raise unknown("emotion of the written texts", emotion, known)
    wanted = set(emotions or known)
    topics = list(dict.fromkeys(text.topic for text in all_written() if text.split == "train"))
    learned = set(topics[:stories_per_emotion])
    stories = [
        text
        for text in all_written()
        if text.emotion in wanted and (text.split == "held_out" or text.topic in learned)
    ]
    neutral = [text for text in all_written() if not text.emotion]
    step = max(1, -(-len(neutral) // neutral_texts))
    return stories + neutral[::step]
