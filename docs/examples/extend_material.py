"""A source of texts: what the collect stage reads when a recipe says `collect.material = "two_sentences"`."""

from pathlib import Path

from emocircuits.activations import LabelledText
from emocircuits.models.planted.text import CIRCUMSTANCES, NEUTRAL
from emocircuits.runs.run import Run
from emocircuits.studies.texts import SOURCES, TextSource, texts_for


def two_sentences(run: Run) -> list[LabelledText]:
    """Stories of every emotion in both splits, and neutral texts; any callable from a run to labelled
    texts will do.
    """
    texts = []
    for emotion, words in {**CIRCUMSTANCES, "": NEUTRAL}.items():
        for number in range(12):
            one, two, three = (words[(number + step) % len(words)] for step in (0, 3, 5))
            texts.append(
                LabelledText(
                    f"{emotion or 'neutral'}/{number}",
                    f"alex was {one} and {two} . then alex was {three} .",
                    emotion,
                    kind="story" if emotion else "neutral",
                    split="held_out" if number % 4 == 0 else "train",
                )
            )
    return texts


SOURCES.add(
    TextSource("two_sentences", "stories of two sentences in the planted model's words", two_sentences)
)


def example(directory: Path) -> None:
    """The texts pass the checks of the collect stage."""
    texts = texts_for(Run.open(directory, ["collect.material=two_sentences"]))
    assert len(texts) == 60
