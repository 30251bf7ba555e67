"""Projection on an emotion direction, token by token along a transcript."""

import pandas as pd
from matplotlib.figure import Figure

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.card import FIGURES, FigureCard, columns, require
from emocircuits.figures.style import GRID, LINES, SERIES, literal, new_figure, widths
from emocircuits.limits import TRANSCRIPT_TOKENS
from emocircuits.sanitise import sanitise_text

COLUMNS = ("transcript", "position", "token", "emotion", "value")


def draw(table: pd.DataFrame, venue: str) -> Figure:
    """One panel per transcript, tokens on the x axis (names while they fit)."""
    transcripts = list(dict.fromkeys(table.transcript))
    figure = new_figure(widths(venue)[1], 1.9 * len(transcripts))
    for axes, name in zip(figure.subplots(len(transcripts), 1, squeeze=False).flat, transcripts, strict=True):
        rows = table[table.transcript == name]
        axes.axhline(0, color=GRID, lw=0.8)
        for i, (emotion, curve) in enumerate(rows.groupby("emotion", sort=False)):
            curve = curve.sort_values("position")
            axes.plot(
                curve.position,
                curve.value,
                color=SERIES[i % len(SERIES)],
                ls=LINES[i % len(LINES)],
                lw=1.3,
                label=literal(emotion),
            )
        words = rows.drop_duplicates("position").sort_values("position")
        if len(words) <= TRANSCRIPT_TOKENS:
            axes.set_xticks(
                words.position.tolist(),
                [literal(_short(sanitise_text(str(text)).strip() or "␣")) for text in words.token],
                rotation=90,
                fontsize=5.5,
            )
        axes.set(ylabel="projection", xlim=(words.position.min() - 0.5, words.position.max() + 0.5))
        axes.set_title(literal(name))
        axes.legend(loc="upper left", ncols=3)
    return figure


def _short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}…"


def load(run: RunFiles) -> dict[str, pd.DataFrame]:
    """`readings.csv` of the organism; of other models the examples of their circuits,
    `tokens_<behaviour>.json`.
    """
    table = run.table("readings.csv")
    if table is None:
        table = _examples(run)
    table = columns(
        require(table, "readings.csv, nor tokens_<behaviour>.json", "circuit"), COLUMNS, "readings.csv"
    )
    return {"token_reading": table[list(COLUMNS)]}


def _examples(run: RunFiles) -> pd.DataFrame:
    """Both prompts of every circuit's example."""
    rows = []
    for name in sorted(path.name for path in run.directory.glob("tokens_*.json")):
        behaviour = name[len("tokens_") : -len(".json")].replace("_", " ")
        for side, prompt in run.document(name)["sides"].items():
            for emotion, values in prompt["readings"].items():
                tokens = enumerate(zip(prompt["tokens"], values, strict=True))
                rows += [
                    (f"{behaviour}, {side} prompt", position, text, emotion, value)
                    for position, (text, value) in tokens
                    if value is not None
                ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


FIGURES.add(
    FigureCard(
        "token_reading",
        "Reading along a transcript",
        "Projection of the residual stream on emotion directions at each token.",
        COLUMNS,
        draw,
        load,
        optional=True,
    )
)
