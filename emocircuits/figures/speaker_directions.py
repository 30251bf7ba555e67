"""Whose emotion the directions read: the present speaker's, the other's, the one felt, the one shown."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import GRID, MUTED, SERIES, new_figure, widths

COLUMNS = ("panel", "directions", "label", "value", "ci_low", "ci_high")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Left: AUROC of each role's directions for each label; right: likeness of roles, same emotion and
    structure.
    """
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.44)
    left, right = figure.subplots(1, 2)
    rows = table[table.panel == "reading"].reset_index(drop=True)
    labels = list(dict.fromkeys(rows.label))
    for line, row in enumerate(rows.itertuples()):
        colour = SERIES[labels.index(row.label) % len(SERIES)]
        left.bar(
            line,
            row.value - 0.5,
            bottom=0.5,
            width=0.7,
            color=colour,
            alpha=1 if row.directions == row.label else 0.35,
        )
        left.errorbar(
            line,
            row.value,
            yerr=[[row.value - row.ci_low], [row.ci_high - row.value]],
            color=MUTED,
            capsize=2,
            lw=0.8,
        )
    left.axhline(0.5, color=MUTED, lw=0.7)
    left.set_xticks(
        range(len(rows)),
        [f"{row.directions}\n→ {row.label}" for row in rows.itertuples()],
        fontsize=6,
        rotation=45,
    )
    left.set_ylabel("held-out AUROC")
    left.set_title("Directions of a role → label read", fontsize=7.5)
    pairs = table[table.panel.isin(["same", "structure"])]
    names = list(dict.fromkeys(zip(pairs.directions, pairs.label, strict=True)))
    for offset, (panel, colour) in enumerate((("same", SERIES[1]), ("structure", SERIES[2]))):
        own = pairs[pairs.panel == panel]
        y = [
            -names.index(pair) + 0.18 * (1 - 2 * offset)
            for pair in zip(own.directions, own.label, strict=True)
        ]
        right.barh(
            y,
            own.value,
            height=0.34,
            color=colour,
            label={"same": "cosine, same emotion", "structure": "likeness of structure (Spearman)"}[panel],
        )
    right.axvline(0, color=GRID, lw=0.8)
    right.set_yticks(
        [-line for line in range(len(names))],
        [f"{first} – {second}" for first, second in names],
        fontsize=6,
    )
    right.tick_params(axis="y", length=0)
    right.set_title("How alike two roles are", fontsize=7.5)
    right.legend(loc="lower right", fontsize=6)
    return figure


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`speakers/readings.csv` and `speakers/similarity.csv`, written by `emocircuits directions speakers
    RUN`.
    """
    readings = columns(
        require(run.table("speakers/readings.csv"), "speakers/readings.csv", "directions speakers"),
        ("directions", "label", "auroc", "ci_low", "ci_high"),
        "speakers/readings.csv",
    )
    similarity = columns(
        require(run.table("speakers/similarity.csv"), "speakers/similarity.csv", "directions speakers"),
        ("role", "other", "same", "structure", "structure_low", "structure_high"),
        "speakers/similarity.csv",
    )
    rows = [
        ("reading", row.directions, row.label, row.auroc, row.ci_low, row.ci_high)
        for row in readings.itertuples()
    ]
    for row in similarity.itertuples():
        rows += [
            ("same", row.role, row.other, row.same, float("nan"), float("nan")),
            ("structure", row.role, row.other, row.structure, row.structure_low, row.structure_high),
        ]
    return {"speaker_directions": pd.DataFrame(rows, columns=list(COLUMNS))}


FIGURES.add(
    FigureCard(
        "speaker_directions",
        "Whose emotion is read",
        "Left: directions of a role (the present speaker's emotion, the other's, one that is felt but "
        "masked, the one shown instead) on held-out dialogues, for their own label (full colour) and for "
        "the other one (pale); 0.5 is chance. Right: cosine of the two directions of one emotion, and rank "
        "correlation of all cosines between emotions.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
