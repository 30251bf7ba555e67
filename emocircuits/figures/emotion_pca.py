"""Principal components of the emotion directions against valence and arousal."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import DIVERGING, INK, MUTED, literal, new_figure, widths
from emocircuits.limits import PLANE_LABELS

COLUMNS = (
    "emotion",
    "pc1",
    "pc2",
    "pc3",
    "valence",
    "arousal",
    "explained_pc1",
    "explained_pc2",
    "explained_pc3",
)


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Pearson r with its 95 % interval by Fisher's z."""
    if len(x) < 4 or np.std(x) == 0 or np.std(y) == 0:
        return 0.0, -1.0, 1.0
    r = float(np.corrcoef(x, y)[0, 1])
    z, half = np.arctanh(np.clip(r, -0.999999, 0.999999)), 1.959964 / np.sqrt(len(x) - 3)
    return r, float(np.tanh(z - half)), float(np.tanh(z + half))


def axis_of(table: pd.DataFrame, coordinate: str, skip: str | None = None) -> str:
    """The one of the first three components that follows a coordinate best."""
    names = [name for name in ("pc1", "pc2", "pc3") if name != skip]
    return max(
        names, key=lambda name: abs(correlation(table[name].to_numpy(), table[coordinate].to_numpy())[0])
    )


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """Two panels on the same axes, coloured by valence and by arousal."""
    rows = table.dropna(subset=["valence", "arousal"])
    across = axis_of(rows, "valence")
    up = axis_of(rows, "arousal", skip=across)
    width = widths(venue)[1]
    figure = new_figure(width, width * 0.5)
    for axes, coordinate, component in zip(
        figure.subplots(1, 2, sharex=True, sharey=True), ("valence", "arousal"), (across, up), strict=True
    ):
        values = rows[coordinate]
        limit = max(values.abs().max(), 1e-9)
        dots = axes.scatter(
            rows[across],
            rows[up],
            c=values,
            cmap=DIVERGING,
            vmin=-limit,
            vmax=limit,
            s=16,
            edgecolors=MUTED,
            linewidths=0.4,
            zorder=2,
        )
        axes.axhline(0, lw=0.6, color=MUTED, zorder=0)
        axes.axvline(0, lw=0.6, color=MUTED, zorder=0)
        r, low, high = correlation(rows[component].to_numpy(), values.to_numpy())
        axes.set_title(
            f"{coordinate}: r = {r:.2f} [{low:.2f}, {high:.2f}] with {component.upper()}".replace("-", "−"),
            fontsize=7.5,
        )
        axes.set_xlabel(f"{across.upper()} ({100 * rows[f'explained_{across}'].iloc[0]:.0f} % of variance)")
        bar = figure.colorbar(dots, ax=axes, shrink=0.7, aspect=22, pad=0.02)
        bar.set_label(coordinate)
        bar.outline.set_visible(False)
        _names(axes, rows, across, up)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel(f"{up.upper()} ({100 * rows[f'explained_{up}'].iloc[0]:.0f} % of variance)")
    return figure


def _names(axes: Axes, rows: pd.DataFrame, across: str, up: str) -> None:
    """Names the outermost emotions, where there is room."""
    x, y = rows[across].to_numpy(), rows[up].to_numpy()
    span = np.array([np.ptp(x) or 1.0, np.ptp(y) or 1.0])
    axes.margins(0.12)
    far = np.argsort(-np.hypot(x / span[0], y / span[1]), kind="stable")
    dots = np.stack([x, y], axis=1) / span
    taken: list[np.ndarray] = []
    for i in far:
        name = rows.emotion.iloc[i]
        half = 0.0135 * len(name)
        for below in (False, True):
            spot = dots[i] + np.array([0.0, -0.036 if below else 0.036])
            free = all(abs(spot[0] - t[0]) > half + t[2] or abs(spot[1] - t[1]) > 0.05 for t in taken)
            if (
                len(taken) < PLANE_LABELS
                and free
                and not np.any((np.abs(dots - spot)[:, 0] < half) & (np.abs(dots - spot)[:, 1] < 0.03))
            ):
                taken.append(np.array([*spot, half]))
                axes.annotate(
                    literal(name),
                    (x[i], y[i]),
                    xytext=(0, -4.5 if below else 4.5),
                    textcoords="offset points",
                    ha="center",
                    va="top" if below else "bottom",
                    fontsize=6,
                    color=INK,
                )
                break


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """Components at the reading site; arbitrary signs are turned so that r with valence (or arousal) is
    positive.
    """
    directions = require(run.directions, "directions.h5", "directions")
    norms = columns(
        require(run.table("directions.csv"), "directions.csv", "directions"),
        ("emotion", "valence", "arousal"),
        "directions.csv",
    )
    norms = norms.drop_duplicates("emotion").set_index("emotion").reindex(list(directions.emotions))
    vectors = directions.vectors[directions.site_index(directions.read_site)].astype(np.float64)
    centred = vectors - vectors.mean(0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    scores = np.zeros((len(vectors), 3))
    explained = np.zeros(3)
    count = min(3, len(lengths))
    scores[:, :count] = (left * lengths)[:, :count]
    explained[:count] = (lengths**2 / (lengths**2).sum())[:count]
    table = pd.DataFrame(
        {
            "emotion": list(directions.emotions),
            **{f"pc{i + 1}": scores[:, i] for i in range(3)},
            "valence": norms["valence"].to_numpy(),
            "arousal": norms["arousal"].to_numpy(),
            **{f"explained_pc{i + 1}": explained[i] for i in range(3)},
        }
    )
    known = require(
        table.dropna(subset=["valence", "arousal"]), "valence and arousal in directions.csv", "directions"
    )
    across = axis_of(known, "valence")
    for name in ("pc1", "pc2", "pc3"):
        if (
            correlation(known[name].to_numpy(), known["valence" if name == across else "arousal"].to_numpy())[
                0
            ]
            < 0
        ):
            table[name] = -table[name]
    return {"emotion_pca": table[list(COLUMNS)]}


FIGURES.add(
    FigureCard(
        "emotion_pca",
        "Valence and arousal",
        "Emotion directions on the principal components (of the first three) that follow valence and "
        "arousal best, with Pearson r and its 95 % interval; the choice among three is part of the reading. "
        "Signs of components are arbitrary.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
