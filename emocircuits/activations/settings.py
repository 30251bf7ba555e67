"""What is read: which texts, and how many of each kind."""

from dataclasses import dataclass

from emocircuits.settings import check, setting

MATERIALS = ("organism", "written", "planted", "self_written", "asked")


@dataclass(frozen=True)
class CollectSettings:
    """What is read: the labelled stories, the neutral texts and the further texts the SAEs learn from."""

    material: str = setting(
        "organism", "where texts come from, or the path of a JSONL file of them", choices=MATERIALS, open=True
    )
    emotions: tuple[str, ...] = setting((), "which emotions; none given takes all the material has")
    stories_per_emotion: int = setting(40, "stories of an emotion to learn from", unit="stories", least=1)
    held_out_share: float = setting(0.25, "further stories that are held out, as a share", above=0, most=0.9)
    neutral_texts: int = setting(400, "neutral texts", unit="texts", least=1)
    further_texts: int = setting(1500, "documents of every other kind, for the SAEs", unit="texts", least=0)
    corpus: tuple[str, ...] = setting(
        (),
        "more texts for the SAEs: text files, JSONL, datasets:NAME, organism (all its kinds of documents), "
        "python (the documentation that comes with it)",
    )
    corpus_words: int = setting(100_000, "words that are taken of each corpus", unit="words", least=1)
    temperature: float = setting(0.7, "at which a chat model is asked for stories", above=0)
    top_p: float = setting(
        0.95, "share of the probability that its words are drawn from, the likeliest first", above=0, most=1
    )
    dtype: str = setting("bfloat16", "of the stored activations", choices=("bfloat16", "float32"))

    def __post_init__(self) -> None:
        check(self, "collect")
