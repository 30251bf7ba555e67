"""Scores of all features for one emotion, against the largest score that permuted labels give."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, Missing, require
from emocircuits.figures.style import (
    INK,
    MUTED,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    literal,
    new_figure,
    widths,
)
from emocircuits.names import short_site

COLUMNS = ("emotion", "statistic", "record", "site", "feature", "value", "level", "kept")
EMOTION, STATISTIC = "desperate", "standardised_delta"
SHOWN_LEVELS = (0.5, 0.95)
BINS = 60


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """A histogram on a logarithmic axis; lines are quantiles of the null's maximum, marks the kept
    features.
    """
    features, null = table[table.record == "feature"], table[table.record == "null_max"]
    figure = new_figure(widths(venue)[1] * 0.72, 2.75)
    axes = figure.subplots()
    values = features.value.to_numpy(float)
    low, high = (
        min(values.min(), null.value.min() if len(null) else values.min()),
        max(values.max(), null.value.max() if len(null) else values.max()),
    )
    axes.hist(
        values,
        bins=np.linspace(low, high if high > low else low + 1, BINS + 1),
        color=NEUTRAL,
        alpha=0.55,
        label=f"all {len(values)} features",
    )
    axes.set_yscale("log")
    for level, line in zip(SHOWN_LEVELS, (":", "--"), strict=True):
        if len(null):
            row = null.iloc[(null.level - level).abs().argmin()]
            axes.axvline(
                row.value,
                color=NEGATIVE,
                ls=line,
                lw=1.2,
                label=f"null maximum, {100 * row.level:.3g} % quantile",
            )
    kept = features[features.kept.astype(bool)].sort_values("value", ascending=False)
    if len(kept):
        axes.plot(
            kept.value,
            np.full(len(kept), 0.8),
            marker="^",
            ls="none",
            color=POSITIVE,
            ms=5,
            label=f"{len(kept)} kept matches",
            clip_on=False,
            zorder=4,
        )
        best = kept.iloc[0]
        axes.annotate(
            f"{short_site(best.site)} / {int(best.feature)}",
            (best.value, 0.8),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            fontsize=6.5,
            color=INK,
        )
    axes.set_ylim(bottom=0.6)
    statistic, emotion = str(features.statistic.iloc[0]), str(features.emotion.iloc[0])
    score = "standardised Δf" if statistic == "standardised_delta" else literal(statistic)
    axes.set_xlabel(f"{score} of the feature for {literal(emotion)}")
    axes.set_ylabel("features")
    axes.tick_params(axis="y", which="minor", color=MUTED)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """Scores, null quantiles and kept features of one emotion; `statistic` in the settings names the permuted
    score.
    """
    path = require(run.path("matches.h5"), "matches.h5", "match")
    matches = FeatureMatches.load(path)
    if "max_quantile" not in matches.null or "level" not in matches.null:
        raise Missing(
            "matches.h5 holds no quantiles of the permutation null", cure="run the stage 'match' again"
        )
    emotion = EMOTION if EMOTION in matches.emotions else matches.emotions[0]
    e = matches.emotions.index(emotion)
    statistic = str(matches.provenance.settings.get("statistic", STATISTIC))
    if statistic not in matches.scores:
        raise Missing(f"matches.h5 holds no score '{statistic}'", expected=", ".join(matches.scores))
    scores = matches.scores[statistic][:, e]
    eligible = matches.null.get("eligible", np.ones((len(matches.sites), scores.shape[1]), bool)).astype(bool)
    kept = {(row.site, int(row.feature)) for row in matches.kept(emotion).itertuples()}
    rows = [
        (emotion, statistic, "feature", site, int(f), float(scores[s, f]), None, (site, int(f)) in kept)
        for s, site in enumerate(matches.sites)
        for f in np.flatnonzero(eligible[s])
    ]
    rows += [
        (emotion, statistic, "null_max", "", -1, float(value), float(level), False)
        for value, level in zip(matches.null["max_quantile"][e], matches.null["level"], strict=True)
    ]
    return {
        "match_null": pd.DataFrame(
            require(rows, "eligible features in matches.h5", "match"), columns=list(COLUMNS)
        )
    }


FIGURES.add(
    FigureCard(
        "match_null",
        "Matches against the null",
        "Scores of every eligible feature for the emotion (logarithmic counts). Lines: quantiles of the "
        "largest score over all features when the labels of the stories are permuted; triangles: the "
        "matches that are kept.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
