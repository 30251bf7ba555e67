"""A source of texts: what the collect stage reads when a recipe says `collect.material = "two_sentences"`."""

from pathlib import Path

import emocircuits as emo

CIRCUMSTANCES = {
    "desperate": "desperate broke doomed starving cornered ruined",
    "calm": "calm safe settled rested secure steady",
    "happy": "happy glad cheerful smiling joyful merry",
    "": "walked cooked looked sat talked waited",
}
WORDS = 12


def two_sentences(ask: emo.TextRequest) -> list[emo.LabelledText]:
    """Stories of every emotion in both splits, and neutral texts; `ask` holds settings and seed."""
    texts = []
    for emotion, listed in CIRCUMSTANCES.items():
        words = listed.split()
        for number in range(WORDS):
            one, two, three = (words[(number + step) % len(words)] for step in (0, 3, 5))
            texts.append(
                emo.LabelledText(
                    f"{emotion or 'neutral'}/{number}",
                    f"alex was {one} and {two} . then alex was {three} .",
                    emotion,
                    kind="story" if emotion else "neutral",
                    split="held_out" if number % 4 == 0 else "train",
                )
            )
    return texts


emo.TEXT_SOURCES.add(emo.TextSource("two_sentences", "stories of two sentences", two_sentences))


def example(directory: Path) -> None:
    """The texts pass the checks of the collect stage."""
    texts = emo.load_texts("two_sentences")
    assert len(texts) == 48
