"""Where texts come from: the organism's generator, texts written by hand, the planted model's words, the
model itself, or a JSONL file. Adding a source is a card in `TEXT_SOURCES`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emocircuits.activations.asked_stories import asked_material, neutral_dialogues
from emocircuits.activations.corpus import corpus_texts
from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.self_written import StorySettings, WritingPlan, write_stories
from emocircuits.activations.settings import CollectSettings
from emocircuits.activations.story_files import read_stories
from emocircuits.activations.story_material import story_material
from emocircuits.activations.written import written_emotions, written_texts
from emocircuits.errors import UserError, unknown
from emocircuits.models.planted.text import EMOTIONS, planted_stories
from emocircuits.organism.corpus import generate, neutral_documents
from emocircuits.organism.world import lexicon
from emocircuits.registry import Registry

ASKED_TOKENS = 220  # about 150 words


@dataclass(frozen=True)
class TextRequest:
    """What a source of texts is asked for.

    Attributes:
        settings: which emotions, and how many texts of each kind.
        seed: seed of everything random.
        model: the language model, for sources that it writes itself.
        keep: the file that texts which a model writes are kept in, so that they are written once.
    """

    settings: CollectSettings
    seed: int = 0
    model: Any = None
    keep: Path | None = None

    @property
    def language_model(self) -> Any:
        """The model.

        Raises:
            UserError: none was given.
        """
        if self.model is None:
            raise UserError("these texts are written by a model", expected="model=, a loaded model")
        return self.model

    @property
    def frozen(self) -> Path:
        """The file of the texts that the model writes.

        Raises:
            UserError: none was given.
        """
        if self.keep is None:
            raise UserError("a model writes these texts once", expected="keep=, the file to keep them in")
        return self.keep


@dataclass(frozen=True)
class TextSource:
    """A source of texts.

    Attributes:
        name: its name, a value of `collect.material`.
        summary: one line.
        texts: request -> all its texts.
        emotions: the emotions that it can show, or None where that is not known before the texts are there.
    """

    name: str
    summary: str
    texts: Callable[[TextRequest], list[LabelledText]]
    emotions: Callable[[], Sequence[str]] | None = None


TEXT_SOURCES: Registry[TextSource] = Registry("material")


def load_texts(
    source: str | Path = "organism",
    settings: CollectSettings | None = None,
    *,
    seed: int = 0,
    model: Any = None,
    keep: str | Path | None = None,
) -> list[LabelledText]:
    """Labelled texts: emotion stories (split `train` and `held_out`), `neutral` texts, and further texts for
    the SAEs; what the collect stage of a run reads.

    Args:
        source: `organism`, `written`, `planted`, `self_written`, `asked`, or the path of a JSONL file.
        settings: which emotions, and how many texts of each kind; a file is read whole.
        seed: seed of everything random.
        model: a loaded model, for texts that it writes itself (`self_written`, `asked`).
        keep: the file that those are kept in.

    Raises:
        UserError: an unknown source, a file that is not right, an emotion without stories in both splits, one
            emotion alone, or no neutral text.
    """
    settings = settings or CollectSettings()
    if Path(source).suffix == ".jsonl":
        texts = read_stories(source)
    else:
        ask = TextRequest(settings, seed, model, None if keep is None else Path(keep))
        texts = TEXT_SOURCES.get(str(source)).texts(ask)
    check_texts(texts, settings.emotions)
    for corpus in settings.corpus:
        texts += corpus_texts(corpus, settings.corpus_words, seed)
    return texts


def check_texts(texts: Sequence[LabelledText], emotions: Collection[str] = ()) -> None:
    """Refuses texts that directions cannot be learned from.

    Args:
        texts: all of them.
        emotions: emotions that some story must show.

    Raises:
        UserError: a missing emotion, one without stories in both splits, one alone, or no neutral text.
    """
    splits: dict[str, set[str]] = {}
    for text in texts:
        if text.kind == "story" and text.emotion:
            splits.setdefault(text.emotion, set()).add(text.split)
    for emotion in emotions:
        if emotion not in splits:
            raise unknown("emotion", emotion, splits)
    poor = [emotion for emotion, found in splits.items() if not {"train", "held_out"} <= found]
    if poor:
        raise UserError(
            f"the emotion '{poor[0]}' has stories in the split {' and '.join(splits[poor[0]])} only",
            expected="stories to fit and stories held out",
            cure="raise collect.stories_per_emotion",
        )
    if len(splits) < 2:
        raise UserError(
            "all stories show one emotion", expected="at least two, since directions are contrasts"
        )
    if not any(text.kind == "neutral" for text in texts):
        raise UserError(
            "the material has no neutral texts",
            expected="kind 'neutral'",
            cure="they are needed to project out neutral variance",
        )


def _organism(ask: TextRequest) -> list[LabelledText]:
    """Documents of the organism's world that it was not trained on."""
    settings = ask.settings
    seed = 10_000 + ask.seed  # texts the organism was not trained on
    texts = []
    held_out = max(2, round(settings.stories_per_emotion * settings.held_out_share))
    for emotion in settings.emotions or lexicon().emotions:
        for split, count in (("train", settings.stories_per_emotion), ("held_out", held_out)):
            texts += [
                _labelled(document, f"{emotion}/{document.id}")
                for document in generate("story", count, seed, split, named=False, emotion=emotion)
            ]
    texts += [
        replace(_labelled(document), kind="neutral")
        for document in neutral_documents(settings.neutral_texts, seed)
    ]
    further = ("inbox", "coding", "dialogue", "sycophancy", "preference", "activity", "numeric")
    shares = {"inbox": 0.35, "coding": 0.3}
    for kind in further:
        count = round(settings.further_texts * shares.get(kind, 0.35 / (len(further) - len(shares))))
        texts += [_labelled(document) for document in generate(kind, count, seed, "train")]
    return texts


def _written(ask: TextRequest) -> list[LabelledText]:
    """Scenes and neutral texts written by hand."""
    settings = ask.settings
    return written_texts(settings.emotions, settings.stories_per_emotion, settings.neutral_texts)


def _planted(ask: TextRequest) -> list[LabelledText]:
    """Stories in the words of the planted model."""
    settings = ask.settings
    share = settings.held_out_share
    count = settings.stories_per_emotion * 5 + settings.neutral_texts
    texts = []
    for number, story in enumerate(planted_stories(count, ask.seed)):
        held_out = (number * share) % 1 + share >= 1
        neutral = story.emotion == "neutral"
        texts.append(
            LabelledText(
                id=f"planted/{number}",
                text=story.text,
                emotion="" if neutral else story.emotion,
                topic=story.topic,
                kind="neutral" if neutral else "story",
                split="held_out" if held_out else "train",
            )
        )
    return texts


def _self_written(ask: TextRequest) -> list[LabelledText]:
    """Stories that the model writes itself, frozen in the run directory."""
    settings = ask.settings
    return write_stories(
        ask.language_model,
        WritingPlan(
            tuple(settings.emotions),
            settings.stories_per_emotion,
            n_neutral=settings.neutral_texts,
            held_out_share=settings.held_out_share,
            seed=ask.seed,
        ),
        ask.frozen,
    )


def _asked(ask: TextRequest) -> list[LabelledText]:
    """Stories that a chat model writes when it is asked to, frozen in the run directory, and neutral
    dialogues.
    """
    settings, share = ask.settings, ask.settings.held_out_share
    stories = write_stories(
        ask.language_model,
        WritingPlan(
            tuple(settings.emotions),
            settings.stories_per_emotion,
            held_out_share=share,
            seed=ask.seed,
        ),
        ask.frozen,
        settings=StorySettings(
            new_tokens=ASKED_TOKENS,
            min_new_tokens=ASKED_TOKENS // 4,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=16,
        ),
        material=asked_material(ask.language_model),
    )
    return stories + neutral_dialogues(settings.neutral_texts, ask.seed, share)


def _in_the_lexicon() -> tuple[str, ...]:
    return tuple(lexicon().emotions)


def _with_situations() -> tuple[str, ...]:
    return story_material().emotions


def _labelled(document: Any, identity: str = "") -> LabelledText:
    return LabelledText(
        id=identity or document.id,
        text=document.text,
        emotion=document.emotion or "",
        topic=document.topic,
        kind=document.kind,
        split=document.split,
        named=document.named,
    )


for source in (
    TextSource("organism", "documents of the organism's world, new to the model", _organism, _in_the_lexicon),
    TextSource("written", "short texts written by hand, 48 emotions", _written, written_emotions),
    TextSource("planted", "stories in the words of the planted model", _planted, lambda: EMOTIONS),
    TextSource("self_written", "stories that the model writes itself", _self_written, _with_situations),
    TextSource("asked", "stories that a chat model writes when it is asked to", _asked, _in_the_lexicon),
):
    TEXT_SOURCES.add(source)
