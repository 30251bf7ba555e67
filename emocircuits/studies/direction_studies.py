"""Questions about the directions of a finished run: how good they are, what any text reads, what speakers
feel, what is preferred.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.activations.dialogues import (
    LabelledDialogue,
    Line,
    masked_spans,
    read_dialogues,
    speaker_spans,
)
from emocircuits.activations.spans import SpanText, collect_spans
from emocircuits.activations.story_files import read_stories
from emocircuits.directions.summaries import summarise
from emocircuits.directions.validation import auroc_intervals
from emocircuits.errors import UserError
from emocircuits.experiments.geometry import best_correlation
from emocircuits.experiments.readings import token_readings
from emocircuits.experiments.scan import Scan, ScanSettings, scan_file
from emocircuits.experiments.speakers import role_readings, role_similarity, speaker_directions
from emocircuits.io.documents import write_csv
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.organism.corpus import make_document
from emocircuits.organism.dialogues import balanced_pairs
from emocircuits.organism.documents import Document
from emocircuits.runs.opening import open_run
from emocircuits.runs.run import Run
from emocircuits.studies.direction_checks import (
    chosen_directions,
    geometry_table,
    organism_limits,
    preference_agreement,
    preference_study,
    site_table,
)


def open_directions(directory: Path, *, loading: Loading = AS_IT_IS) -> Run:
    """The run directory as a run.

    Raises:
        UserError: no run there, or one without directions.
    """
    run = open_run(directory, loading)
    if not (directory / "directions.h5").is_file():
        raise UserError(
            f"{directory} holds no directions.h5",
            cure=f"emocircuits stage directions {directory}",
        )
    return run


def validate_directions(directory: Path, estimators: list[str] | None = None) -> list[dict[str, Any]]:
    """One row per estimator and site: AUROC, accuracy, reliability, what the principal components follow, and
    the limits.

    Args:
        directory: a run directory whose directions stage is done.
        estimators: learn anew with each of these (`all` for every one); the run's own directions by default.

    Raises:
        UserError: no run, no directions, or an unknown estimator.
    """
    run = open_directions(directory)
    made = chosen_directions(run, estimators)
    limits = organism_limits(run, made[0])
    rows = []
    for directions in made:
        geometry = geometry_table(directions)
        for row in site_table(directions, limits).to_dict("records"):
            here = geometry[geometry["site"] == row["site"]]
            row |= {f"{name}_r": best_correlation(here, name) for name in ("valence", "arousal") if len(here)}
            rows.append(
                {
                    "estimator": directions.estimator,
                    **row,
                    "topic_cramers_v": directions.settings.get("topic_cramers_v"),
                    "read": row["site"] == directions.read_site,
                }
            )
    return [
        {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def read_text(
    directory: Path,
    text: str,
    emotions: list[str] | None = None,
    *,
    site: str | None = None,
    top: int = 10,
    loading: Loading = AS_IT_IS,
) -> dict[str, Any]:
    """Readings of a text.

    Returns:
        `site, mean` (emotion -> mean reading over the tokens, highest first, the `top` highest and lowest),
        `tokens` (per token its text and the readings of `emotions`, None at position 0).

    Raises:
        UserError: no run, an empty text, one longer than the context, or an unknown emotion or site.
    """
    run = open_directions(directory, loading=loading)
    directions, model = run.directions, run.model
    tokens = model.encode(text)
    if len(tokens) < 2 or len(tokens) > model.n_ctx:
        raise UserError(
            f"the text has {len(tokens)} tokens",
            expected=f"2 to {model.n_ctx}, the context of the model",
            cure="for longer texts: emocircuits directions scan",
        )
    for emotion in emotions or []:
        directions.vector(emotion, site or directions.read_site)
    values = token_readings(model, directions, [tokens], directions.emotions, site=site)[0]
    means = dict(zip(directions.emotions, np.nanmean(values, axis=0).tolist(), strict=True))
    ordered = sorted(means, key=lambda emotion: -means[emotion])
    if not emotions:
        known = [emotion for emotion in (run.recipe.emotion, run.recipe.opposite) if emotion in means]
        emotions = list(dict.fromkeys([*known, *ordered[:2]]))
    columns = [directions.emotions.index(emotion) for emotion in emotions]
    listed = [
        {
            "token": word,
            **{
                emotion: None if np.isnan(row[column]) else float(row[column])
                for emotion, column in zip(emotions, columns, strict=True)
            },
        }
        for word, row in zip(model.token_texts(tokens), values, strict=True)
    ]
    ends = list(dict.fromkeys([*ordered[:top], *ordered[-top:]]))
    return {
        "site": site or directions.read_site,
        "mean": {emotion: means[emotion] for emotion in ends},
        "tokens": listed,
    }


def scan_texts(
    directory: Path,
    path: Path,
    *,
    emotions: list[str] | None = None,
    top: int = 3,
    site: str | None = None,
    loading: Loading = AS_IT_IS,
) -> Scan:
    """The passages of a text file where each emotion reads highest (`experiments.scan`)."""
    run = open_directions(directory, loading=loading)
    directions = run.directions
    for emotion in emotions or []:
        directions.vector(emotion, site or directions.read_site)
    return scan_file(
        run.model, directions, path, emotions=emotions, site=site, settings=ScanSettings(top=top)
    )


def study_speakers(
    directory: Path, dialogues: Path | None = None, *, per_emotion: int = 14, loading: Loading = AS_IT_IS
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Learns speaker and deflection directions; writes `<run>/speakers/<role>.h5`, `readings.csv` and
    `similarity.csv`.

    Args:
        directory: a run directory whose directions stage is done.
        dialogues: a JSONL file of labelled dialogues; without it the organism's own are made.
        per_emotion: of those, so many per emotion and speaker to learn from (a quarter as many, at least 3,
            held out).
        loading: how the model is loaded.

    Returns:
        The rows of the two tables (`experiments.speakers.role_readings` and `role_similarity`).

    Raises:
        UserError: no run, no dialogues, or too few of an emotion.
    """
    run = open_directions(directory, loading=loading)
    recipe, seed = run.recipe, run.recipe.seed
    if dialogues is not None:
        material = read_dialogues(dialogues)
    elif recipe.collect.material == "organism":
        material = organism_dialogues(per_emotion, max(3, per_emotion // 4), 30_000 + seed)
    else:
        raise UserError(
            f"the material '{recipe.collect.material}' has no dialogues",
            cure="bring labelled ones: --dialogues FILE.jsonl",
        )
    spans = [*speaker_spans(material), *masked_spans(material)]
    if not spans:
        raise UserError(
            "no dialogue has two speakers that are both heard, nor a mask",
            expected="see emocircuits.activations.dialogues",
        )
    spans += [
        SpanText(
            text.id, text.text, ((0, len(text.text)),), kind="neutral", further={"other": "", "shown": ""}
        )
        for text in read_stories(run.path("texts.jsonl"))
        if text.kind == "neutral"
    ]
    folder = run.path("speakers")
    store = collect_spans(
        run.model, spans, folder / "activations.h5", dtype=recipe.collect.dtype, replace=True
    )
    topics = {one.topic for one in material} - {""}
    how = recipe.directions if len(topics) > 1 else replace(recipe.directions, content_controls=0)
    found = speaker_directions(store, how, seed=seed)
    readings = role_readings(store, found)
    similarity = role_similarity(found | {"story": run.directions}, seed=seed)
    for role, directions in found.items():
        directions.save(folder / f"{role}.h5")
    write_csv(folder / "readings.csv", readings)
    write_csv(folder / "similarity.csv", similarity)
    return readings.to_dict("records"), similarity.to_dict("records")


def organism_dialogues(fit: int, held_out: int, seed: int) -> list[LabelledDialogue]:
    """Dialogues and masked dialogues of the organism's world, every emotion equally often on either side."""
    return [
        labelled_dialogue(make_document(kind, number, seed=seed, split=split, emotion=emotion, other=other))
        for kind in ("dialogue", "masked")
        for split, count in (("train", fit), ("held_out", held_out))
        for number, (emotion, other) in enumerate(balanced_pairs(kind, count, split))
    ]


def labelled_dialogue(made: Document) -> LabelledDialogue:
    """A generated dialogue with its speakers as A and B."""
    names = {0: "A", 1: "B", -1: ""}
    lines = tuple(
        Line(
            names[side], text, "speech" if text.partition(": ")[0].isalpha() and ": " in text else "narration"
        )
        for side, text in zip(made.sides, made.text.split("\n"), strict=True)
    )
    other = made.other[0] if made.other else None
    return LabelledDialogue(
        made.id,
        lines,
        {"A": made.emotion or "", "B": other or ""},
        {"A": made.mask} if made.mask else {},
        made.topic,
        made.split,
    )


def study_preferences(directory: Path, *, loading: Loading = AS_IT_IS, **changes: Any) -> dict[str, Any]:
    """The preference experiment on a run's directions; writes `preferences.csv` and `preference_emotions.csv`
    into the run.

    Args:
        directory: a run directory whose directions stage is done.
        loading: how the model is loaded.
        changes: keys of the recipe's `preference` table.

    Returns:
        `site, n_pairs, sites` (rows of `Preferences.site_scores`), `agreement` (reading against effect),
        `emotions`, `activities`.
    """
    run = open_directions(directory, loading=loading)
    how = replace(
        run.recipe.preference, **{key: value for key, value in changes.items() if value is not None}
    )
    activities, emotions, found = preference_study(run, run.directions, how)
    write_csv(run.path("preferences.csv"), activities)
    write_csv(run.path("preference_emotions.csv"), emotions)
    return {
        "site": emotions["site"].iloc[0],
        "n_pairs": found.n_pairs,
        "settings": asdict(how),
        "sites": found.site_scores().to_dict("records"),
        "agreement": preference_agreement(emotions),
        "emotions": _records(emotions),
        "activities": activities.to_dict("records"),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def control_aurocs(run: Run) -> pd.DataFrame:
    """How well the run's emotion and every control of its directions read held-out stories, at the reading
    site: one row per control, `kind, name, auroc`, the emotion first.
    """
    directions, emotion = run.directions, run.recipe.emotion
    site, settings = directions.read_site, directions.settings
    seen = summarise(run.store, from_token=settings["from_token"], named=settings["named"], sites=(site,))
    held = seen.of_split(settings["held_out_split"])
    held &= seen.stories["emotion"].isin(directions.emotions).to_numpy()
    stories = seen.story_means[held, 0]
    labels = np.where(seen.stories["emotion"][held] == emotion, 0, 1)
    scored = [("emotion", emotion, directions.vector(emotion, site))] + [
        (kind, name, vector)
        for kind, control in directions.controls.items()
        for name, vector in zip(control.names, control.vectors[directions.site_index(site)], strict=True)
    ]
    rows = [
        (kind, name, auroc_intervals((stories @ vector)[:, None], labels).auroc[0])
        for kind, name, vector in scored
    ]
    return pd.DataFrame(rows, columns=["kind", "name", "auroc"])
