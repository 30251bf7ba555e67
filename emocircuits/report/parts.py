"""The parts of the report, top to bottom. Every number is read from the run's files."""

# ruff: noqa: E501 (markup and scripts read better unbroken)

import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pandas as pd

from emocircuits.artifacts.feature_page import feature_page
from emocircuits.io.documents import read_json
from emocircuits.report.answer import badge, overview, steering_table, verdict
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import Cell, esc, facts, frame, interval, number, table
from emocircuits.report.token_parts import token_boxes
from emocircuits.report.trace_part import trace

SAE_HEADS = {
    "site": "site",
    "architecture": "architecture",
    "d_sae": "features",
    "l0": "L0",
    "fvu": "FVU",
    "ce_loss_recovered": "CE loss recovered",
    "dead_fraction": "dead",
    "tokens": "tokens",
}
MATCH_HEADS = {
    "emotion": "emotion",
    "site": "site",
    "feature": "feature",
    "delta": "Δf",
    "cosine": "cosine",
    "auroc": "AUROC",
    "p_value": "p",
    "q_value": "q",
    "kept": "kept",
}
TOKENS = (
    "<p>Orange reads more of the emotion, blue less, in units of the mean residual norm; the first token is an attention sink and has no reading. "
    "Point at a token for its number, at a head for its pattern.</p>"
)
VERSIONS = ("numpy", "scipy", "torch", "transformers", "transformer-lens", "sae-lens", "h5py", "matplotlib")


def words(name: str) -> str:
    """A name as people read it."""
    return esc(name.replace("_", " "))


def asked(run: RunData, pictures: dict[str, str]) -> str:
    """What was asked, and what the words mean."""
    names = [f"<em>{words(name)}</em>" for name in run.summary["behaviours"]]
    return f"""<p>Language models carry linear directions in their residual stream that stand for emotions. The question of this run: does the direction of
<em>{esc(run.emotion)}</em> <b>cause</b> {_and(names)} in this model, and through which features does it reach the deciding token?</p>
<p>For every behaviour there are pairs of prompts of the same length: a <em>clean</em> one in which circumstances are {esc(run.emotion)}, and a <em>corrupt</em> one in which they are
{esc(run.opposite)}. The metric is the log-odds of the behaviour's tokens against the honest ones. A positive effect means: putting the clean value into the corrupt run raises the metric.</p>
<p>“Functional emotion” names a representation that is read from text and acts on behaviour. Nothing here says, or could say, that the model feels anything.</p>"""


def answer(run: RunData, pictures: dict[str, str]) -> str:
    """The verdicts and the table with controls."""
    cards = "".join(
        f'<article class="verdict"><h3>{words(name)} {badge(run, name)}</h3><p>{verdict(run, name)}</p></article>'
        for name in run.summary["behaviours"]
    )
    return (
        f'<div class="verdicts">{cards}</div>{overview(run)}<p>The effect column is the value under the largest steering strength, with its 95 % interval over prompts; '
        "controls are directions of the same norm at the same strength: random ones, content directions (topics, learned in the same way) and directions "
        "learned from shuffled labels. A null result stands here as plainly as a positive one.</p>"
    )


def model(run: RunData, pictures: dict[str, str]) -> str:
    """The model."""
    digest = str(run.manifest["model"].get("content_hash", ""))
    rates = [
        [
            name.replace("_", " "),
            side,
            values.get("rate"),
            Cell(interval(values.get("ci_low"), values.get("ci_high")), values.get("ci_low")),
            values.get("true_rate"),
        ]
        for name, score in run.scores.items()
        for side, values in score.get("rates", {}).items()
        if isinstance(values, dict)
    ]
    shown = table(["behaviour", "prompts", "rate", "95 % interval", "true rate"], rows=rates) if rates else ""
    return (
        facts(
            [
                ("model", run.summary["model"]),
                ("parameters", run.summary["n_params"]),
                ("emotions", run.summary["emotions"]),
                ("seed", run.manifest["seed"]),
                ("content hash", Cell(f'<code title="{esc(digest)}">{esc(digest[:12])}…</code>')),
            ]
        )
        + shown
        + pictures.get("decision_failures", "")
    )


def directions(run: RunData, pictures: dict[str, str]) -> str:
    """The emotion directions."""
    summary = run.summary["directions"]
    shown = ["valence_r", "arousal_r", "held_out_auroc"]
    names = {
        "valence_r": "|r| of a top component with valence",
        "arousal_r": "|r| with arousal",
        "held_out_auroc": "mean held-out AUROC",
    }
    text = (
        "<p>A direction is the mean residual of an emotion's stories, minus the mean over all emotions, with what neutral text varies along removed. "
        "Held-out AUROC says how well the projection tells one emotion from all others on stories that made no direction; 0.5 is chance.</p>"
    )
    return (
        text
        + facts((names[name], summary.get(name)) for name in shown)
        + pictures["emotion_similarity"]
        + pictures.get("emotion_pca", "")
        + pictures.get("token_reading", "")
        + f"<details><summary>All {len(run.directions)} directions</summary>{frame(run.directions, tall=True)}</details>"
    )


def saes(run: RunData, pictures: dict[str, str]) -> str:
    """The sparse autoencoders."""
    return (
        "<p>Sparse autoencoders split the residual stream into features. What they leave unexplained stays in the circuit as error nodes.</p>"
        + pictures["sae_quality"]
        + frame(run.saes, _named(run.saes, SAE_HEADS))
    )


def matches(run: RunData, pictures: dict[str, str]) -> str:
    """Feature matches."""
    data = _linked(run)
    first = data[data.emotion.isin([run.emotion, run.opposite])].sort_values(
        ["emotion", "p_value"], ascending=[run.emotion < run.opposite, True], kind="stable"
    )
    kept = data[data.kept.astype(bool)] if len(data) else data
    text = (
        f"<p>Listed are the {len(data)} best features over all emotions; {len(kept)} of them are kept as matches, significant after correction for all tests. "
        f"Of <em>{esc(run.emotion)}</em>: {int((kept.emotion == run.emotion).sum())}; of <em>{esc(run.opposite)}</em>: {int((kept.emotion == run.opposite).sum())}.</p>"
    )
    return (
        text
        + frame(first, _named(first, MATCH_HEADS), tall=True, caption=f"{run.emotion} and {run.opposite}")
        + pictures.get("match_null", "")
        + f"<details><summary>All {len(data)} matches</summary>{frame(data, tall=True)}</details>"
    )


def _linked(run: RunData) -> pd.DataFrame:
    """The matches; features whose SAE is known on Neuronpedia are links to their pages."""
    about = {
        path.parent.name: read_json(path).get("metadata") or {}
        for path in run.directory.glob("saes/*/cfg.json")
    }
    ids, data = {site: one.get("neuronpedia_id") for site, one in about.items()}, run.matches
    if not any(feature_page(name, 0) for name in ids.values()):
        return data
    pairs = zip(data.site, data.feature, strict=True)
    return data.assign(
        feature=[_feature(feature_page(ids.get(site), feature), feature) for site, feature in pairs]
    )


def _feature(page: str, feature: int) -> Cell | int:
    if not page:
        return feature
    return Cell(f'<a href="{esc(page)}" rel="noopener noreferrer">{number(feature)}</a>', float(feature))


def circuits(run: RunData, pictures: dict[str, str]) -> str:
    """The circuits, live."""
    blocks = []
    for name in run.circuits:
        blocks.append(f'<h3>{words(name)}</h3><div class="circuit" data-graph="graph-{esc(name)}"></div>')
        boxes, _ = token_boxes(run, name)
        if boxes:
            blocks.append(
                f'<details open><summary>The example of {words(name)}, token by token</summary>{TOKENS}<div class="tokens">{boxes}</div></details>'
            )
    return (
        "<p>Rows are layers, columns the tokens of one prompt. Point at a node for its name, click it for its card: matched emotions, effect with interval, "
        "verified effect, inputs and outputs, the texts where it is most active. <i>Effects along</i> shows the same nodes under control directions.</p>"
        + "".join(blocks)
    )


def steering(run: RunData, pictures: dict[str, str]) -> str:
    """Dose–response."""
    blocks = "".join(
        f"<h3>{words(name)}</h3>{steering_table(run, name)}" for name in dict.fromkeys(run.steering.behaviour)
    )
    return (
        "<p>A direction is added to the residual stream at one site, at a share of its mean norm, on held-out prompts.</p>"
        + pictures["steering"]
        + blocks
    )


def _covered(run: RunData) -> str:
    """At which sites circuits are scored."""
    sites = list(dict.fromkeys(site for score in run.scores.values() for site in score.get("sites", ())))
    return (
        f"Both at the sites that circuits cover: {esc(', '.join(sites))}; what lies before the first of them is left whole. "
        if sites
        else ""
    )


def checks(run: RunData, pictures: dict[str, str]) -> str:
    """Faithfulness, attribution against intervention, stability, controls."""
    circuit, linear, controls = [], [], []
    for name, score in run.scores.items():
        if not isinstance(score, dict):
            continue
        exact, stable, shown = (
            score.get("attribution_exact", {}),
            score.get("stability", {}),
            name.replace("_", " "),
        )
        low, high = score.get("faithfulness_ci", [None, None])
        faithful = Cell(
            f"{number(score.get('faithfulness'))} <small>{interval(low, high) if low is not None else ''}</small>",
            score.get("faithfulness"),
        )
        circuit.append(
            [
                shown,
                faithful,
                *(
                    score.get(key)
                    for key in (
                        "random_circuit_faithfulness",
                        "completeness",
                        "cpr",
                        "cmd",
                        "cpr_log",
                        "cmd_log",
                    )
                ),
            ]
        )
        linear.append(
            [
                shown,
                *(exact.get(key) for key in ("pearson", "slope", "sign_agreement", "n")),
                stable.get("jaccard"),
                stable.get("rank_correlation"),
            ]
        )
        controls += _controls(shown, score.get("controls", {}))
    text = (
        "<p>Faithfulness: ablate everything outside the circuit on held-out prompts and see how much of the change in the metric is left (1 = all of it). "
        "Completeness: ablate the circuit itself and see what is left (0 = nothing). "
        f"{_covered(run)}Attribution is an estimate from gradients; the scatter says how good it is here.</p>"
    )
    return (
        text
        + pictures["faithfulness"]
        + table(
            [
                "behaviour",
                "faithfulness",
                "random circuit",
                "completeness",
                "CPR",
                "CMD",
                "CPR (log size)",
                "CMD (log size)",
            ],
            circuit,
        )
        + pictures["attribution_exact"]
        + table(
            [
                "behaviour",
                "attribution r",
                "slope",
                "same sign",
                "nodes checked",
                "stability (Jaccard)",
                "rank correlation",
            ],
            linear,
        )
        + (
            "<h3>Controls</h3>"
            + table(["behaviour", "control", "value", "nodes", "of them errors"], controls, tall=True)
            if controls
            else ""
        )
    )


def _controls(shown: str, found: dict[str, Any]) -> list[list[Any]]:
    """A row per control: circuits chosen in another way with their faithfulness and size, and plain
    numbers.
    """
    rows = []
    for key, value in found.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and "faithfulness" in value:
            low, high = value.get("ci_low"), value.get("ci_high")
            between = f" <small>{interval(low, high)}</small>" if low is not None else ""
            score = Cell(f"{number(value['faithfulness'])}{between}", value["faithfulness"])
            rows.append([shown, f"{name}: faithfulness", score, value.get("size"), value.get("errors")])
        elif isinstance(value, dict):
            rows += [
                [shown, f"{name}: {part}".replace("_", " "), item, None, None]
                for part, item in _flat(value)
                if isinstance(item, (int, float))
            ]
        elif isinstance(value, (int, float)):
            rows.append([shown, name, value, None, None])
    return rows


def provenance(run: RunData, pictures: dict[str, str]) -> str:
    """Stages, hashes, settings, versions."""
    stages = [
        [
            name,
            stage.get("seconds"),
            stage.get("peak_rss_mb"),
            Cell(f"<code>{esc(str(stage.get('key', ''))[:12])}</code>"),
        ]
        for name, stage in run.manifest["stages"].items()
    ]
    outputs = [
        [name, path, Cell(f'<code title="{esc(digest)}">{esc(str(digest)[:16])}</code>')]
        for name, stage in run.manifest["stages"].items()
        for path, digest in stage.get("outputs", {}).items()
    ]
    settings = [[key, _text(value)] for key, value in _flat(run.recipe)]
    return (
        facts(
            [
                ("code version", Cell(f"<code>{esc(run.manifest['code_version'])}</code>")),
                ("seed", run.manifest["seed"]),
                ("peak memory (MiB)", run.summary.get("peak_rss_mb")),
            ]
        )
        + table(["stage", "seconds", "peak memory (MiB)", "key"], stages)
        + _model_checks(run)
        + f"<details><summary>Output files and their SHA-256</summary>{table(['stage', 'file', 'sha-256'], outputs, tall=True)}</details>"
        + f"<details><summary>All settings</summary>{table(['setting', 'value'], settings, tall=True)}</details>"
        + f"<details><summary>Versions</summary>{table(['package', 'version'], versions())}</details>"
    )


def _model_checks(run: RunData) -> str:
    """What was checked when the model was loaded, and what was measured."""
    path = run.directory / "model.json"
    if not path.is_file():
        return ""
    about = read_json(path)
    rows = [
        [check["name"], "passed" if check["passed"] else "failed", check["value"], check["detail"]]
        for check in about.get("checks", ())
    ]
    return (
        f"<h3>Checks of the model when it was loaded</h3>{table(['check', 'result', 'measured', 'what'], rows)}"
        if rows
        else ""
    )


def versions() -> list[list[str]]:
    """Python and the packages the numbers depend on."""
    found = [["python", platform.python_version()]]
    for name in VERSIONS:
        try:
            found.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            found.append([name, "not installed"])
    return found


def _named(data: Any, heads: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in heads.items() if name in data.columns}


PARTS: tuple[tuple[str, str, Callable[[RunData, dict[str, str]], str]], ...] = (
    ("asked", "What was asked", asked),
    ("answer", "The answer", answer),
    ("model", "The model", model),
    ("directions", "Emotion directions", directions),
    ("saes", "Sparse autoencoders", saes),
    ("matches", "Feature matches", matches),
    ("trace", "From the emotion to the tokens", trace),
    ("circuits", "Circuits", circuits),
    ("steering", "Steering", steering),
    ("checks", "How far to trust it", checks),
    ("provenance", "Provenance", provenance),
)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        found += (
            _flat(item, f"{name}.")
            if isinstance(item, dict)
            else [
                (
                    name,
                    item
                    if isinstance(item, (int, float)) or not prefix and item is None
                    else _text(item)
                    if isinstance(item, (list, tuple))
                    else item,
                )
            ]
        )
    return found


def _text(value: Any) -> str:
    return (
        ", ".join(map(_text, value))
        if isinstance(value, (list, tuple))
        else number(value)
        if isinstance(value, float)
        else str(value)
    )
