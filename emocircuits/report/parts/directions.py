"""The emotion directions: their geometry, how well they read, and a text read along them."""

from typing import Any

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.directions.human_scores import read_human_text
from emocircuits.names import short_site
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, estimate, facts, frame, long_details, table
from emocircuits.report.text import esc, interval, number

TITLE = "Emotion directions"
SCORES = {
    "valence_r": "|r| of a top component with valence",
    "arousal_r": "|r| with arousal",
    "held_out_auroc": "mean held-out AUROC",
}
READINGS = {"component": "best of three components, |r|", "ridge": "ridge on the other emotions, r"}


def build(run: RunData, pictures: Pictures) -> str:
    """What a direction is, how good they are, and all of them."""
    return (
        "<p>A direction is the mean residual of an emotion's stories, minus the mean over all emotions, with "
        "what neutral text varies along removed. Held-out AUROC says how well the projection tells one "
        "emotion from all others on stories that made no direction; 0.5 is chance.</p>"
        + facts((text, run.summary["directions"].get(name)) for name, text in SCORES.items())
        + pictures["emotion_similarity"]
        + pictures.get("emotion_pca")
        + pictures.get("token_reading")
        + _human(run)
        + long_details(
            f"All {len(run.directions)} directions", frame(run.directions, tall=True), "directions.csv"
        )
    )


def _human(run: RunData) -> str:
    """The directions on texts of people, where they were read; nothing where they were not."""
    found = read_human_text(run.directory)
    if found is None:
        return ""
    source, own = found["source"], RunFiles(run.directory).directions
    old = own is not None and own.content_hash != found["directions"]
    return (
        "<h3>On texts that people wrote and labelled</h3>"
        + ("<p>The directions were learned again after this was measured.</p>" if old else "")
        + f"<p>{number(source['scored'])} of {number(source['texts'])} texts of <code>{esc(source['file'])}"
        "</code> carry one label that stands for a direction. AUROC is of each emotion's texts against those "
        "of the other emotions, its mean next to what shuffled labels and as many random directions reach "
        "(95th percentile, largest in brackets).</p>"
        + table(
            ["site", "directions", "texts", "mean AUROC", "labels shuffled", "random", "matched random"],
            [_set(row) for row in found["scores"]],
        )
        + "".join(map(_gain, found["scores"]))
        + table(
            ["site", "emotion", "labels", "texts", "AUROC", "cleaned, other half"],
            [_emotion(row) for row in found["emotions"]],
            tall=True,
        )
        + "<h3>Against published valence and arousal</h3><p>r over the emotions whose words people rated; p "
        "by permuting the ratings, and the least that so few emotions allow.</p>"
        + table(
            ["site", "rating", "reading", "emotions", "r", "p", "least p"],
            [_norm(row) for row in found["norms"]],
            tall=True,
        )
    )


def _set(row: dict[str, Any]) -> list[Any]:
    out = "" if row["components"] is None else f", {row['components']} neutral components out"
    half = f"{row['n']}" + ("" if row["texts"] == "all" else ", half")
    nulls = [
        Cell(f"{number(row[f'{kind}_p95'])} ({number(row[f'{kind}_max'])})", row[f"{kind}_p95"])
        for kind in ("shuffled", "random", "matched")
    ]
    means = estimate(row["auroc"], row["auroc_low"], row["auroc_high"], strong=True)
    return [_site(row), f"{row['directions']}{out}", half, means, *nulls]


def _gain(row: dict[str, Any]) -> str:
    if row.get("gain") is None:
        return ""
    return (
        f"<p>{_site(row)}: of the numbers of neutral components, {number(row['components'])} was best on one "
        f"half of the texts. On the other half it adds {number(row['gain'], sign=True)} "
        f"{interval(row['gain_low'], row['gain_high'])} to the directions as they are.</p>"
    )


def _emotion(row: dict[str, Any]) -> list[Any]:
    cleaned = row.get("cleaned")
    other = None if cleaned is None else estimate(cleaned, row["cleaned_low"], row["cleaned_high"])
    own = estimate(row["auroc"], row["auroc_low"], row["auroc_high"])
    return [_site(row), row["emotion"], row["labels"], row["n"], own, other]


def _norm(row: dict[str, Any]) -> list[Any]:
    r = None if row["r"] is None else estimate(row["r"], row["ci_low"], row["ci_high"])
    reading = READINGS[row["reading"]]
    return [_site(row), row["coordinate"], reading, row["n"], r, row["p_value"], row["smallest_p"]]


def _site(row: dict[str, Any]) -> str:
    return f"{row['estimator'].replace('_', ' ')}, {short_site(row['site'])}"
