"""Where the texts of a run come from: the organism's generator, the model itself, the planted model, or a
JSONL file.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emocircuits.activations import LabelledText
from emocircuits.activations.asked_stories import asked_material, neutral_dialogues
from emocircuits.activations.self_written import StorySettings, WritingPlan, write_stories
from emocircuits.activations.story_files import read_stories
from emocircuits.activations.story_material import story_material
from emocircuits.errors import UserError, unknown
from emocircuits.models.planted.text import EMOTIONS, planted_stories
from emocircuits.organism.corpus import generate, neutral_documents
from emocircuits.organism.world import lexicon
from emocircuits.registry import Registry
from emocircuits.runs.run import Run
from emocircuits.settings import about, known

TEXTS = "texts.jsonl"
ASKED_TOKENS = 220  # about 150 words


@dataclass(frozen=True)
class TextSource:
    """A source of texts.

    Attributes:
        name: its name, a value of `collect.material`.
        summary: one line.
        texts: run -> all its texts.
        emotions: the emotions that it can show, or None where that is not known before the texts are there.
    """

    name: str
    summary: str
    texts: Callable[[Run], list[LabelledText]]
    emotions: Callable[[], Sequence[str]] | None = None


SOURCES: Registry[TextSource] = Registry("material")


def texts_for(run: Run) -> list[LabelledText]:
    """All texts of a run: emotion stories (split `train` and `held_out`), `neutral` texts, and further texts
    for the SAEs.

    Raises:
        UserError: an unknown material, an unknown emotion, or an emotion without stories in both splits.
    """
    material = run.recipe.collect.material
    if Path(material).suffix == ".jsonl":
        return _from_file(run)
    texts = SOURCES.get(material).texts(run)
    _check(texts, run.recipe)
    return texts


def check_material(run: Run) -> None:
    """Refuses a material that is not there, or that cannot show the emotions of the recipe.

    Raises:
        UserError: names the key.
    """
    recipe, material = run.recipe, run.recipe.collect.material
    if Path(material).suffix == ".jsonl":
        with about("collect.material"):
            _from_file(run)
        return
    known("collect.material", material, SOURCES.names())
    emotions = SOURCES.get(material).emotions
    possible = None if emotions is None else tuple(emotions())
    for name in recipe.collect.emotions if possible is not None else ():
        known("collect.emotions", name, possible)
    shown = recipe.collect.emotions or possible
    for key, name in (("emotion", recipe.emotion), ("opposite", recipe.opposite)) if shown else ():
        known(key, name, shown)
    if shown is not None and len(shown) < 2:
        raise UserError(
            f"collect.emotions is {', '.join(shown)}", expected="at least two: directions are contrasts"
        )


def _from_file(run: Run) -> list[LabelledText]:
    texts = read_stories(run.recipe.collect.material)
    _check(texts, run.recipe)
    return texts


def collected_texts(run: Run) -> list[LabelledText]:
    """The texts that the collect stage read, from `texts.jsonl`.

    Raises:
        UserError: the stage was not run.
    """
    path = run.path(TEXTS)
    if not path.is_file():
        raise UserError(f"there is no {path}", cure="run the stage 'collect' first")
    return [LabelledText(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _organism(run: Run) -> list[LabelledText]:
    """Documents of the organism's world that it was not trained on."""
    recipe = run.recipe
    settings = recipe.collect
    seed = 10_000 + recipe.seed  # texts the organism was not trained on
    texts = []
    held_out = max(2, round(settings.stories_per_emotion * recipe.collect.held_out_share))
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


def _planted(run: Run) -> list[LabelledText]:
    """Stories in the words of the planted model."""
    settings = run.recipe.collect
    share = run.recipe.collect.held_out_share
    count = settings.stories_per_emotion * 5 + settings.neutral_texts
    texts = []
    for number, story in enumerate(planted_stories(count, run.recipe.seed)):
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


def _self_written(run: Run) -> list[LabelledText]:
    """Stories that the model writes itself, frozen in the run directory."""
    settings = run.recipe.collect
    return write_stories(
        run.model,
        WritingPlan(
            tuple(settings.emotions),
            settings.stories_per_emotion,
            n_neutral=settings.neutral_texts,
            held_out_share=run.recipe.collect.held_out_share,
            seed=run.recipe.seed,
        ),
        run.path("stories.jsonl"),
    )


def _asked(run: Run) -> list[LabelledText]:
    """Stories that a chat model writes when it is asked to, frozen in the run directory, and neutral
    dialogues.
    """
    settings, share = run.recipe.collect, run.recipe.collect.held_out_share
    stories = write_stories(
        run.model,
        WritingPlan(
            tuple(settings.emotions),
            settings.stories_per_emotion,
            held_out_share=share,
            seed=run.recipe.seed,
        ),
        run.path("stories.jsonl"),
        settings=StorySettings(
            new_tokens=ASKED_TOKENS, min_new_tokens=ASKED_TOKENS // 4, temperature=1.0, batch_size=16
        ),
        material=asked_material(run.model),
    )
    return stories + neutral_dialogues(settings.neutral_texts, run.recipe.seed, share)


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


def _check(texts: list[LabelledText], recipe: Any) -> None:
    splits: dict[str, set[str]] = {}
    for text in texts:
        if text.kind == "story" and text.emotion:
            splits.setdefault(text.emotion, set()).add(text.split)
    for emotion in (recipe.emotion, recipe.opposite, *recipe.collect.emotions):
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


for source in (
    TextSource("organism", "documents of the organism's world, new to the model", _organism, _in_the_lexicon),
    TextSource("planted", "stories in the words of the planted model", _planted, lambda: EMOTIONS),
    TextSource("self_written", "stories that the model writes itself", _self_written, _with_situations),
    TextSource("asked", "stories that a chat model writes when it is asked to", _asked, _in_the_lexicon),
):
    SOURCES.add(source)
