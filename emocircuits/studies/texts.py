"""The texts of a run: where its recipe says they come from, checked and kept."""

import json
from pathlib import Path

from emocircuits.activations import LabelledText
from emocircuits.activations.corpus import check_corpus
from emocircuits.activations.story_files import read_stories
from emocircuits.activations.texts import TEXT_SOURCES, check_texts, load_texts
from emocircuits.errors import UserError
from emocircuits.io.lines import lines_of
from emocircuits.runs.run import Run
from emocircuits.settings import about, known

TEXTS = "texts.jsonl"


def texts_for(run: Run) -> list[LabelledText]:
    """All texts of a run, with stories of its two emotions.

    Raises:
        UserError: an unknown material, an unknown emotion, or an emotion without stories in both splits.
    """
    recipe = run.recipe
    texts = load_texts(
        recipe.collect.material,
        recipe.collect,
        seed=recipe.seed,
        model=run.model,
        keep=run.path("stories.jsonl"),
    )
    check_texts(texts, _wanted(run))
    return texts


def _wanted(run: Run) -> tuple[str, ...]:
    return (run.recipe.emotion, run.recipe.opposite, *run.recipe.collect.emotions)


def check_material(run: Run) -> None:
    """Refuses a material that is not there, or that cannot show the emotions of the recipe.

    Raises:
        UserError: names the key.
    """
    recipe, material = run.recipe, run.recipe.collect.material
    with about("collect.corpus"):
        for corpus in recipe.collect.corpus:
            check_corpus(corpus)
    if Path(material).suffix == ".jsonl":
        with about("collect.material"):
            check_texts(read_stories(material), _wanted(run))
        return
    known("collect.material", material, TEXT_SOURCES.names())
    emotions = TEXT_SOURCES.get(material).emotions
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


def collected_texts(run: Run) -> list[LabelledText]:
    """The texts that the collect stage read, from `texts.jsonl`.

    Raises:
        UserError: the stage was not run.
    """
    path = run.path(TEXTS)
    if not path.is_file():
        raise UserError(f"there is no {path}", cure="run the stage 'collect' first")
    return [LabelledText(**json.loads(line)) for line in lines_of(path.read_text(encoding="utf-8"))]
