"""`emocircuits cost`: time and memory of a run before it is started."""

import argparse
import json
from dataclasses import fields, replace

from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NUMBER,
    NUMBERS,
    SET,
    TEXT,
    WHOLE,
    Verb,
    loading,
    option,
)
from emocircuits.errors import unknown

SIZES = ("organism", "2b", "7b", "27b")


def cost(arguments: argparse.Namespace) -> int:
    """Prints one row per stage: of a recipe on a model that is here, or of sizes on paper."""
    if arguments.model or arguments.recipe or arguments.profile:
        return _of_recipe(arguments)
    from emocircuits.studies.cost import PRESETS, Job, Speeds, estimate, measure

    if arguments.size not in PRESETS:
        raise unknown("model size", arguments.size, PRESETS)
    changes = {
        item.name: getattr(arguments, item.name)
        for item in fields(Job)
        if getattr(arguments, item.name) is not None
    }
    stated = {
        key: getattr(arguments, name)
        for key, name in (("flops", "flops"), ("model_share", "share"), ("disk", "disk"))
        if getattr(arguments, name) is not None
    }
    rates = Speeds(0.0, 0.0, 0.0, "") if len(stated) == 3 else measure(arguments.device or "cpu")
    rates = replace(
        rates, **stated, what=" and ".join(part for part in (rates.what, "stated" if stated else "") if part)
    )
    job = replace(Job(), **changes)
    rows = estimate(PRESETS[arguments.size], job, rates)
    if arguments.json:
        print(json.dumps({"rates": vars(rates), "job": vars(job), "rows": rows}))
        return 0
    print(
        f"{arguments.size}: {job.tokens:.3g} tokens, {job.sites} SAEs of {job.expansion} x d_model on "
        f"{job.rows:.3g} rows, {job.ranks} ranks"
    )
    print(
        f"{rates.flops:.3g} flop/s, of which a model reaches {rates.model_share:.0%}; "
        f"{rates.disk / 1e6:.0f} MB/s to disk ({rates.what})"
    )
    print(f"{'stage':<10} {'flop':>10} {'time':>12} {'memory GiB':>11} {'disk GiB':>9}")
    for row in rows:
        print(
            f"{row['stage']:<10} {row['flop']:>10.2e} {clock(row['seconds']):>12} "
            f"{row['memory_gb']:>11.1f} {row['disk_gb']:>9.1f}"
        )
    return 0


def _of_recipe(arguments: argparse.Namespace) -> int:
    from emocircuits.runs.recipe import load_recipe
    from emocircuits.studies.forecast import forecast_for

    recipe = load_recipe(arguments.recipe, arguments.set, profile=arguments.profile)
    recipe = recipe if arguments.model is None else replace(recipe, model=arguments.model)
    recipe = recipe if arguments.layers is None else replace(recipe, layers=arguments.layers)
    rows = forecast_for(loading(arguments).load(recipe.model), recipe)
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print(f"{recipe.name} on {recipe.model}, as this machine is now")
    print_stages(rows)
    return 0


def print_stages(rows: list[dict]) -> None:
    """Time, memory and disk of each stage as a table."""
    print(f"{'stage':<10} {'time':>10} {'memory GiB':>11} {'disk GiB':>9}")
    for row in rows:
        time, memory, disk = clock(row["seconds"]), row["memory_gb"], row["disk_gb"]
        print(f"{row['stage']:<10} {time:>10} {memory:>11.1f} {disk:>9.2f}")


def clock(seconds: float) -> str:
    """A time in the unit that people would use."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


COST = Verb(
    "cost",
    "time and memory of a run on paper, before it is started",
    cost,
    (
        option("--model", "a model that is here; it is measured for some seconds", value="MODEL"),
        option("--recipe", "of the run meant: a TOML file or an embedded recipe", TEXT),
        option("--profile", "of the run meant: quick, standard or full", TEXT),
        option("--layers", "blocks to look at, by number or fraction of depth", NUMBERS),
        SET,
        option("--size", ", ".join(SIZES), value="SIZE", default="organism"),
        option("--tokens", "tokens that are harvested", NUMBER),
        option("--rows", "rows each SAE learns from", NUMBER),
        option("--sites", "layers with an SAE", WHOLE),
        option("--expansion", "d_sae / d_model", WHOLE),
        option("--k", "active features", WHOLE),
        option("--pairs", "prompt pairs", WHOLE),
        option("--pair-tokens", "tokens of one side of a pair", WHOLE),
        option("--steps", "midpoints of integrated gradients", WHOLE),
        option("--directions", "directions that are steered", WHOLE),
        option("--strengths", "strengths", WHOLE),
        option("--prompts", "prompts that are steered", WHOLE),
        option("--ranks", "processes or devices", WHOLE),
        option("--flops", "flop/s of a matrix product on the device meant (default: measured here)", NUMBER),
        option("--share", "share of it that a forward pass reaches (default: measured here)", NUMBER),
        option("--disk", "bytes per second that are written (default: measured here)", NUMBER),
        *LOADING,
        JSON,
    ),
    (
        "emocircuits cost --model smollm2-135m --profile quick",
        "emocircuits cost --size 7b --tokens 2e7 --rows 5e8 --sites 4 --flops 4e14 --share 0.4",
    ),
)
