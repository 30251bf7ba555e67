"""Tokens that a direction raises and lowers most: what goes straight to the unembedding, and what later
layers add.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import (
    GRID,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    literal,
    new_figure,
    widths,
)
from emocircuits.limits import LENS_TOKENS
from emocircuits.sanitise import sanitise_text

COLUMNS = ("panel", "token", "place", "direct", "later", "rank_total", "rank_direct", "n_names")
FIRST = ("desperate", "calm")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel of tokens for each of two emotions, and the ranks of every emotion's own name."""
    panels = [name for name in dict.fromkeys(table.panel) if name != "own name"]
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.46)
    all_axes = figure.subplots(1, len(panels) + 1, squeeze=False)[0]
    for axes, name in zip(all_axes, panels, strict=False):
        rows = table[table.panel == name].sort_values("place")
        y = -rows.place
        axes.barh(y + 0.2, rows.direct, height=0.38, color=NEGATIVE, label="direct")
        axes.barh(y - 0.2, rows.later, height=0.38, color=POSITIVE, label="added by later layers")
        axes.set_yticks(
            y, [literal(sanitise_text(str(text)).strip() or "␣") for text in rows.token], fontsize=6
        )
        axes.axvline(0, color=GRID, lw=0.8, zorder=0)
        axes.axhline(-(LENS_TOKENS - 0.5), color=GRID, lw=0.8, zorder=0)
        axes.tick_params(axis="y", length=0)
        axes.set_title(literal(name))
        axes.set_xlabel("logits per unit of strength")
    axes, own = all_axes[-1], table[table.panel == "own name"]
    if len(own):
        edges = np.linspace(0.5, own.n_names.iloc[0] + 0.5, 13)
        axes.hist(
            [own.rank_total, own.rank_direct],
            bins=edges,
            color=[NEUTRAL, NEGATIVE],
            label=["total", "direct only"],
        )
        axes.set_xlabel("rank of its own name")
        axes.set_ylabel("directions")
        axes.legend(loc="upper right")
    axes.set_title("Own name among all names", fontsize=7.5)
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`logit_lens.csv` (tokens at the ends of the total effect) and `logit_lens_summary.csv`."""
    tokens = columns(
        require(run.table("logit_lens.csv"), "logit_lens.csv", "directions"),
        ("direction", "part", "end", "rank", "token", "direct", "later"),
        "logit_lens.csv",
    )
    summary = columns(
        require(run.table("logit_lens_summary.csv"), "logit_lens_summary.csv", "directions"),
        ("direction", "own_rank_total", "own_rank_direct", "n_names"),
        "logit_lens_summary.csv",
    )
    names = list(dict.fromkeys(tokens.direction))
    names = [name for name in FIRST if name in names] or names[:2]
    rows = []
    for name in names:
        own = tokens[(tokens.direction == name) & (tokens.part == "total") & (tokens["rank"] <= LENS_TOKENS)]
        ordered = pd.concat(
            [
                own[own.end == "top"].sort_values("rank"),
                own[own.end == "bottom"].sort_values("rank", ascending=False),
            ]
        )
        rows += [
            (name, row.token, number, row.direct, row.later, *[float("nan")] * 3)
            for number, row in enumerate(ordered.itertuples())
        ]
    known = summary.dropna(subset=["own_rank_total"])
    rows += [
        (
            "own name",
            row.direction,
            float("nan"),
            float("nan"),
            float("nan"),
            row.own_rank_total,
            row.own_rank_direct,
            row.n_names,
        )
        for row in known.itertuples()
    ]
    return {
        "logit_lens": require(
            pd.DataFrame(rows, columns=list(COLUMNS)), "tokens in logit_lens.csv", "directions"
        )
    }


FIGURES.add(
    FigureCard(
        "logit_lens",
        "Tokens that a direction raises and lowers",
        "Change of the logits at the end of neutral prompts per unit of strength: the part that goes "
        "straight to the unembedding and the part that later layers add. Right: where each direction ranks "
        "its own name among all names (1 is the most raised): a direction that is lexical ranks it first "
        "already in the direct part.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
