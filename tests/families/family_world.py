"""A tiny random model of a family in the words of the planted world, and a recipe that runs every stage on it
in seconds.
"""

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from emocircuits import stages as _  # noqa: F401 (registers the stages)
from emocircuits.models.planted.text import WORDS, planted_pairs, planted_stories
from emocircuits.models.tiny import write_tiny_model
from emocircuits.progress import quiet
from emocircuits.runs.execute import run_pipeline
from emocircuits.runs.recipe import Recipe, recipe_from_dict

SETTINGS = {
    "name": "family",
    "behaviours": ["reward_hacking"],
    "threads": 1,
    "collect": {
        "material": "planted",
        "stories_per_emotion": 8,
        "neutral_texts": 12,
        "further_texts": 0,
        "dtype": "float32",
    },
    "directions": {
        "from_token": 12,
        "random_controls": 3,
        "covariance_controls": 2,
        "shuffled_controls": 2,
        "content_controls": 1,
        "splits": 2,
        "bootstrap": 5,
    },
    "checks": {"lens_prompts": 1},
    "sae": {"expansion": 2, "k": 8, "training_rows": 6000, "batch_size": 256, "workers": 1},
    "match": {"permutations": 19, "min_stories": 2, "per_emotion": 2},
    "attribute": {"pairs": 4, "steps": 2},
    "circuit": {"from_depth": 0.0, "max_nodes": 16, "max_share": 0.2, "edge_threshold": 0.0},
    "trace": {"prompts": 2, "steps": 1, "control_steps": 1, "random_controls": 1, "content_controls": 1},
    "evaluate": {"pairs": 4, "exact_nodes": 8, "random_circuits": 5, "sizes": [2, 8]},
    "steer": {
        "strengths": [-0.5, 0.0, 0.5],
        "prompts": 4,
        "samples": 2,
        "emotions": ["desperate", "calm"],
        "random_sets": 2,
        "check_prompts": 2,
        "coherence_texts": 2,
    },
}


@dataclass(frozen=True)
class FamilyRun:
    """What a run of all stages on one family left behind."""

    family: str
    model: Path
    directory: Path
    seconds: float
    stages: dict[str, float]


def write_family(family: str, directory: Path) -> Path:
    """A random model of a family whose tokenizer, trained here, knows the words of the planted world as
    single tokens.
    """
    texts = [story.text for story in planted_stories(40)] + [
        text for pair in planted_pairs(20) for text in (pair.clean, pair.corrupt)
    ]
    return write_tiny_model(family, directory, texts=texts, words=[word for word in WORDS if word.isalpha()])


def family_recipe(model: Path) -> Recipe:
    """Every stage, small."""
    return recipe_from_dict({**SETTINGS, "model": str(model)})


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are made and not rendered: what matplotlib does with them is the same for every model, and most
    of the time.
    """
    places = ("emocircuits.figures.write", "emocircuits.report.pictures")
    modules = [importlib.import_module(name) for name in places]
    with patch.object(modules[0], "picture", _no_picture), patch.object(modules[1], "picture", _no_picture):
        yield


def _no_picture(figure: object, form: str, *, outlines: bool = False) -> bytes:
    return form.encode()


def run_family(family: str, folder: Path) -> FamilyRun:
    """Makes the model and runs every stage on it."""
    begin = time.perf_counter()
    model = write_family(family, folder / "model")
    with quiet(), undrawn():
        manifest = run_pipeline(family_recipe(model), folder / "run")
    return FamilyRun(
        family,
        model,
        folder / "run",
        time.perf_counter() - begin,
        {name: record.seconds for name, record in manifest.stages.items()},
    )
