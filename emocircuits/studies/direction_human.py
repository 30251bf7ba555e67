"""A run's directions on texts that people wrote and labelled, and against published valence and arousal."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.directions.human_labels import LabelledSet, labelled_set, read_human_texts
from emocircuits.directions.human_scores import HumanSettings, write_human_text
from emocircuits.directions.learn import depth_of_model
from emocircuits.directions.neutral_basis import components_out, neutral_basis
from emocircuits.errors import UserError
from emocircuits.experiments.human_text import Cleaning, TextMeans, human_tables, text_means
from emocircuits.experiments.published_norms import norm_table
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.names import depth_of
from emocircuits.provenance import sha256_file
from emocircuits.runs.run import Run
from emocircuits.studies.direction_checks import chosen_directions, learned_directions
from emocircuits.studies.direction_studies import open_directions

ALL = "all"
PLAIN = {
    "random_controls": 0,
    "covariance_controls": 0,
    "shuffled_controls": 0,
    "content_controls": 0,
    "content_topics": (),
    "splits": 0,
    "bootstrap": 0,
}
"""Directions without controls and intervals."""


def norm_rows(made: Sequence[EmotionDirections], seed: int = 0) -> list[dict[str, Any]]:
    """Directions against published norms (`norm_table`): `estimator, site` and its columns."""
    return [
        {"estimator": directions.estimator, "site": site, **row}
        for directions in made
        for site in directions.sites
        for row in _records(norm_table(directions.differences(site), directions.emotions, seed=seed))
    ]


def directions_against_norms(
    directory: Path, estimators: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """`norm_rows` of a run whose directions stage is done.

    Raises:
        UserError: no run, no directions, or an unknown estimator.
    """
    run = open_directions(directory)
    return norm_rows(chosen_directions(run, estimators), run.recipe.seed)


def directions_on_human_text(
    directory: Path,
    path: Path,
    estimators: Sequence[str] | None = None,
    *,
    site: str | None = None,
    loading: Loading = AS_IT_IS,
    **changes: Any,
) -> dict[str, Any]:
    """Scores a run's directions on texts of people; writes `human_text.json` into the run.

    Args:
        directory: a run directory whose directions stage is done.
        path: labelled texts (`directions.human_labels`).
        estimators: learn again with each of these (`all` for every one); the run's own directions by default.
        site: where texts are read: a site, or `all`; the reading site by default.
        loading: how the model is loaded.
        changes: fields of `HumanSettings`: which texts, and numbers of draws.

    Returns:
        The document: `source` (the file and what was left out of it), `settings`, and the rows `scores` and
        `emotions` (`human_tables`) and `norms` (`norm_rows`), each with `estimator` and `site`.

    Raises:
        UserError: no run, no directions, an unknown estimator or site, or a file that is not right.
    """
    run = open_directions(directory, loading=loading)
    how = HumanSettings(**{"seed": run.recipe.seed, **changes})
    own = run.directions
    sites = own.sites if site == ALL else (site or own.read_site,)
    limits = {name: how.max_norm * own.scale(name) for name in sites}
    texts = read_human_texts(path)
    asked = labelled_set(texts, own.emotions, least=how.least)
    model, made = run.model, chosen_directions(run, estimators)
    own.check_model(model.name, model.content_hash, model.d_model)
    found = text_means(model, [text.text for text in asked.texts], limits, from_token=how.from_token)
    rows = {text.id: row for row, text in enumerate(asked.texts)}
    unread = {text.id for text, read in zip(asked.texts, found.read, strict=True) if not read}
    try:
        chosen = labelled_set(
            [text for text in texts if text.id not in unread], own.emotions, least=how.least
        )
    except UserError as error:
        raise UserError(
            f"{len(unread)} of {len(asked.texts)} texts have no token that counts from position "
            f"{how.from_token} on",
            expected=f"at least two emotions with {how.least} longer texts",
            cure="leave out fewer leading tokens: --skip N",
        ) from error
    means = found.means[:, [rows[text.id] for text in chosen.texts]]
    scores, emotions = [], []
    for directions in made:
        for place, name in enumerate(sites):
            where = {"estimator": directions.estimator, "site": name}
            columns = [directions.emotions.index(emotion) for emotion in chosen.emotions]
            vectors = directions.vectors[directions.site_index(name)][columns]
            cleaning = _cleaning(run, directions, name, columns, how)
            by_set, by_emotion = human_tables(means[place], chosen.labels, vectors, how, cleaning)
            scores += [where | row for row in _records(by_set)]
            named = zip(_records(by_emotion), chosen.emotions, chosen.sources, strict=True)
            emotions += [where | {"emotion": e, "labels": ", ".join(s)} | row for row, e, s in named]
    document = {
        "source": _source(path, len(texts), chosen, found, len(unread)),
        "directions": own.content_hash,
        "settings": {**asdict(how), "components": list(how.components)},
        "scores": scores,
        "emotions": emotions,
        "norms": norm_rows(made, how.seed),
        "provenance": run.provenance("directions validate", "directions").to_dict(),
    }
    write_human_text(run.directory, document)
    return document


def _cleaning(
    run: Run, directions: EmotionDirections, site: str, columns: list[int], how: HumanSettings
) -> Cleaning | None:
    """The same directions with nothing projected out, and what can be; None where the run has no activations
    any more, and for directions of a width that leaves nothing to try.
    """
    most = min(max(how.components), directions.vectors.shape[2] // 2)
    if not run.path("activations.h5").is_file() or most == 0:
        return None
    depth = depth_of(site, depth_of_model(run.store))
    settings = replace(
        run.recipe.directions,
        estimator=directions.estimator,
        neutral_variance=0.0,
        **{f"{end}_depth": depth for end in ("from", "to", "read", "steer")},
        **PLAIN,
    )
    raw = learned_directions(run, settings)
    basis = neutral_basis(run.store, run.recipe.directions, site, most)
    own = directions.vectors[directions.site_index(site)]
    return Cleaning(raw.vectors[raw.site_index(site)][columns], basis, components_out(own, basis))


def _source(path: Path, n_texts: int, chosen: LabelledSet, found: TextMeans, n_unread: int) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "texts": n_texts,
        "scored": len(chosen.texts),
        "left_out": {**chosen.left_out, **({"no token that counts": n_unread} if n_unread else {})},
        "tokens": found.n_tokens,
        "long_tokens": found.n_long,
        "cut_texts": int(found.n_cut),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain rows; None for numbers that are missing or not finite."""

    def plain(value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return [{name: plain(value) for name, value in row.items()} for row in table.to_dict("records")]
