"""Numbers that change how grave things are: does the reading follow them? (after Sofroniew et al. 2026,
numeric templates)

A template is a sentence with a place for a number. The reading is taken at the sentence's last token,
averaged over names, and correlated with the number by rank (Spearman), turned so that a positive trend means:
more of the emotion the graver it gets.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError
from emocircuits.experiments.readings import token_readings
from emocircuits.models.language_model import LanguageModel
from emocircuits.numerics import bootstrap_interval

DEFAULT = Path(__file__).parent / "intensity.toml"


@dataclass(frozen=True)
class IntensityTemplate:
    """A sentence with `{n}` (and perhaps `{name}`), the numbers to put there, and which end is the
    grave one.
    """

    id: str
    text: str
    values: tuple[float | int, ...]
    grave: str = "high"

    def __post_init__(self) -> None:
        if "{n}" not in self.text or len(self.values) < 3 or list(self.values) != sorted(set(self.values)):
            raise UserError(
                f"intensity template '{self.id}'", expected="a text with {n} and at least three rising values"
            )
        if self.grave not in ("high", "low"):
            raise UserError(
                f"intensity template '{self.id}': grave = '{self.grave}'", expected="'high' or 'low'"
            )


def read_templates(path: str | Path = DEFAULT) -> tuple[tuple[IntensityTemplate, ...], tuple[str, ...]]:
    """Templates and names of a TOML file (`names = […]`, `[[template]]` with `id`, `text`, `values`,
    `grave`).

    Raises:
        UserError: no such file, or a template that is not right.
    """
    path = Path(path)
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        templates = tuple(
            IntensityTemplate(
                str(row["id"]), str(row["text"]), tuple(row["values"]), str(row.get("grave", "high"))
            )
            for row in table["template"]
        )
    except OSError as error:
        raise UserError(
            f"intensity file {path} cannot be read", expected="a TOML file with [[template]] tables"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f"intensity file {path} is not right: {error}",
            expected="[[template]] tables with id, text and values",
        ) from error
    return templates, tuple(map(str, table.get("names", ("Anna",))))


def intensity_readings(
    model: LanguageModel,
    directions: EmotionDirections,
    templates: Sequence[IntensityTemplate],
    names: Sequence[str],
    *,
    emotions: Sequence[str] | None = None,
    site: str | None = None,
) -> pd.DataFrame:
    """Readings over every number of every template.

    Returns:
        `template, grave, value, emotion, reading` (mean over names), in the unit of steering strength.

    Raises:
        UserError: no templates, or directions of another model.
    """
    emotions = tuple(directions.emotions if emotions is None else emotions)
    if not templates or not names:
        raise UserError("there are no intensity templates or no names to fill in")
    cells = [(template, value) for template in templates for value in template.values]
    prompts = [
        model.encode(template.text.replace("{name}", name).replace("{n}", f"{value:g}"))
        for template, value in cells
        for name in names
    ]
    last = np.array(
        [values[-1] for values in token_readings(model, directions, prompts, emotions, site=site)]
    )
    means = last.reshape(len(cells), len(names), len(emotions)).mean(axis=1)
    return pd.DataFrame(
        {
            "template": np.repeat([template.id for template, _ in cells], len(emotions)),
            "grave": np.repeat([template.grave for template, _ in cells], len(emotions)),
            "value": np.repeat([float(value) for _, value in cells], len(emotions)),
            "emotion": np.tile(emotions, len(cells)),
            "reading": means.reshape(-1),
        }
    )


def intensity_trends(readings: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Spearman correlation of reading and gravity per emotion, mean over the templates.

    Returns:
        `emotion, rho, ci_low, ci_high` (95 % bootstrap over templates), `rising` (share of templates with rho
        above 0), `change` (mean reading at the grave end minus that at the other), `n_templates`; strongest
        rise first.
    """
    emotions = list(dict.fromkeys(readings["emotion"]))
    rhos, changes = [], []
    for _, group in readings.groupby("template", sort=False):
        table = (
            group.pivot(index="value", columns="emotion", values="reading").sort_index()[emotions].to_numpy()
        )
        if group["grave"].iloc[0] == "low":
            table = table[::-1]
        ranks = rankdata(table, axis=0)
        ranks -= ranks.mean(axis=0)
        order = np.arange(len(table)) - (len(table) - 1) / 2
        spread = np.sqrt((ranks**2).sum(axis=0) * (order**2).sum())
        rhos.append(np.divide(order @ ranks, spread, out=np.zeros(len(emotions)), where=spread > 0))
        changes.append(table[-1] - table[0])
    rhos = np.array(rhos)
    low, high = bootstrap_interval(rhos, seed=seed)
    return pd.DataFrame(
        {
            "emotion": emotions,
            "rho": rhos.mean(axis=0),
            "ci_low": low,
            "ci_high": high,
            "rising": (rhos > 0).mean(axis=0),
            "change": np.mean(changes, axis=0),
            "n_templates": len(rhos),
        }
    ).sort_values("rho", ascending=False, kind="stable", ignore_index=True)
