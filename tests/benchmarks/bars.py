"""What the benchmarks of directions and of matching share: a row of the table, the run they read, fresh
stories.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float, Int

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.residuals import collect
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.organism.bayes import level_table
from emocircuits.organism.corpus import make_document
from emocircuits.organism.documents import Document
from emocircuits.organism.world import APPRAISALS, LEVELS, lexicon
from emocircuits.runs.recipe import load_recipe
from emocircuits.runs.run import Run

FRESH_SEED = 77_000
QUICK = (
    'collect.emotions=["afraid", "angry", "calm", "desperate", "happy", "proud", "sad", "tense"]',
    "collect.stories_per_emotion=12",
    "collect.neutral_texts=40",
    "collect.further_texts=0",
    "directions.bootstrap=10",
    "checks.lens_prompts=0",
    "checks.intensity=",
    "preference.material=",
    "match.permutations=100",
    "threads=1",
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was measured.
        bar: the condition in words.
        value: the number.
        passes: whether it holds; None for a line that only stands beside another.
        note: intervals, limits and controls.
    """

    what: str
    bar: str
    value: float
    passes: bool | None
    note: str = ""


def at_least(what: str, value: float, bar: float, note: str = "") -> Row:
    """A row whose value must reach the bar."""
    return Row(what, f"≥ {bar:g}", float(value), bool(value >= bar), note)


def at_most(what: str, value: float, bar: float, note: str = "") -> Row:
    """A row whose value must not pass the bar."""
    return Row(what, f"≤ {bar:g}", float(value), bool(value <= bar), note)


def beside(what: str, value: float, note: str = "") -> Row:
    """A row without a bar."""
    return Row(what, "", float(value), None, note)


def command(
    description: str,
    measure: Callable[[Run, bool, tuple[str, ...]], Iterator[Row]],
    parts: tuple[str, ...],
    until: str,
) -> None:
    """Reads the arguments, opens or makes the run, and prints every row as soon as it is known."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        default=Path("runs/organism"),
        metavar="RUN",
        help="a run of the default recipe; made if absent",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few emotions and stories in a temporary run: shows that it works, not what holds",
    )
    parser.add_argument(
        "--only", default=",".join(parts), metavar="PARTS", help=f"some of {', '.join(parts)}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    arguments = parser.parse_args()
    chosen = tuple(arguments.only.split(","))
    if set(chosen) - set(parts):
        parser.error(f"--only {arguments.only}: expected some of {', '.join(parts)}")
    with _workspace(arguments.run, arguments.quick, until) as run:
        print_rows(measure(run, arguments.quick, chosen), arguments.json)


def print_rows(rows: Iterable[Row], as_json: bool = False) -> None:
    """Prints rows as they come: as JSON, or as lines of a Markdown table."""
    if not as_json:
        print("| what | bar | measured | holds | beside it |\n| --- | --- | --- | --- | --- |", flush=True)
    for row in rows:
        holds = {True: "yes", False: "no", None: ""}[row.passes]
        print(
            json.dumps(asdict(row))
            if as_json
            else f"| {row.what} | {row.bar} | {row.value:.3g} | {holds} | {row.note} |",
            flush=True,
        )


@contextmanager
def _workspace(directory: Path, quick: bool, until: str) -> Iterator[Run]:
    with TemporaryDirectory() as folder:
        yield Run.make(
            Path(folder) / "run" if quick else directory,
            load_recipe(None, QUICK if quick else ()),
            until=until,
        )


@dataclass(frozen=True, eq=False)
class FreshStories:
    """Stories that no direction, no SAE and no match has seen, with their latents.

    Attributes:
        store: their activations.
        documents: one per prompt of the store.
        latent: for every story and emotion, the linear function of the seven true levels that best tells the
            emotion from the others: S⁻¹ (E[levels | emotion] − mean over emotions), S the covariance of
            levels within emotions.
    """

    store: ActivationStore
    documents: tuple[Document, ...]
    latent: Float[np.ndarray, "story emotion"]


def fresh_stories(run: Run, per_emotion: int) -> FreshStories:
    """Made once and kept in the run as `fresh-<n>.h5`."""
    emotions = run.directions.emotions
    made = tuple(
        make_document(
            "story",
            place * per_emotion + number,
            seed=FRESH_SEED + run.recipe.seed,
            named=False,
            emotion=emotion,
        )
        for place, emotion in enumerate(emotions)
        for number in range(per_emotion)
    )
    path = run.path(f"benchmark/fresh-{per_emotion}.h5")
    if not path.is_file():
        texts = [
            LabelledText(f"{one.emotion}/{one.id}", one.text, str(one.emotion), one.topic, "story")
            for one in made
        ]
        collect(run.model, texts, path, replace=True)
    return FreshStories(ActivationStore.open(path), made, emotion_latents(made, emotions))


def emotion_latents(
    stories: tuple[Document, ...], emotions: tuple[str, ...]
) -> Float[np.ndarray, "story emotion"]:
    """See `FreshStories.latent`; the expectations are the generator's own."""
    shares = level_table()[[lexicon().index(emotion) for emotion in emotions]]
    means = shares @ np.array(LEVELS, dtype=np.float64)
    within = (shares @ np.square(LEVELS, dtype=np.float64) - means**2).mean(
        axis=0
    )  # levels are independent given the emotion
    return true_levels(stories) @ ((means - means.mean(axis=0)) / within).T


def true_levels(stories: tuple[Document, ...]) -> Int[np.ndarray, "story appraisal"]:
    """The level of every appraisal, shown or not."""
    return np.array([[one.levels[name] for name in APPRAISALS] for one in stories])
