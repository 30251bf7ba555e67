"""`emocircuits run`, a whole recipe, and `emocircuits stage`, one part of it again."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from emocircuits.cli.verb import (
    CHECKS,
    JSON,
    NUMBER,
    NUMBERS,
    PATH,
    QUIET,
    RUN,
    SET,
    TEXT,
    TRUST,
    WHOLE,
    Verb,
    given,
    option,
    switch,
)
from emocircuits.stages import ORDER

SHORT = ("model", "layers", "seed", "device", "dtype", "device_map", "memory_gb", "revision")


def run(arguments: argparse.Namespace) -> int:
    """Runs the recipe and prints where the report lies."""
    from emocircuits.cli.cost import clock
    from emocircuits.models.loading import Loading
    from emocircuits.runs.execute import FRESH, plan_lines, run_pipeline
    from emocircuits.runs.recipe import load_recipe
    from emocircuits.studies.forecast import forecast_for

    recipe = load_recipe(arguments.recipe, arguments.set, profile=arguments.profile)
    changes = {key: getattr(arguments, key) for key in SHORT if getattr(arguments, key) is not None}
    recipe = replace(recipe, **changes)
    directory = arguments.out or default_directory(recipe.name, recipe.model)
    start, trust = arguments.from_, arguments.trust_remote_code
    if arguments.dry_run:
        lines = plan_lines(recipe, directory, start=start, trust_remote_code=trust)
        model = Loading(recipe.device, recipe.dtype, checks=False, trust_remote_code=trust).load(recipe.model)
        cost = {row["stage"]: row for row in forecast_for(model, recipe)}
        if arguments.json:
            print(json.dumps([{"stage": name, "state": state, **cost[name]} for name, state, _ in lines]))
        else:
            print(f"run directory: {directory}")
            for name, state, does in lines:
                left = "" if state == FRESH else clock(cost[name]["seconds"])
                print(f"  {name:<10} {state:<11} {left:>8}  {does}")
            whole = cost["all"]
            left = sum(cost[name]["seconds"] for name, state, _ in lines if state != FRESH)
            print(
                f"about {clock(left)}, up to {whole['memory_gb']:.1f} GiB of memory and "
                f"{whole['disk_gb']:.1f} GiB of disk, as this machine is now"
            )
        return 0
    run_pipeline(recipe, directory, start=start, trust_remote_code=trust, checks=arguments.checks)
    if arguments.json:
        print((directory / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        print(f"report:  {directory / 'report.html'}\nsummary: {directory / 'summary.json'}")
    return 0


def stage(arguments: argparse.Namespace) -> int:
    """Does one stage of an existing run directory again."""
    from emocircuits.runs.execute import run_pipeline
    from emocircuits.runs.run import Run

    recipe = Run.open(arguments.run, arguments.set).recipe
    run_pipeline(
        recipe,
        arguments.run,
        only=arguments.stage,
        trust_remote_code=arguments.trust_remote_code,
        checks=arguments.checks,
    )
    return 0


def default_directory(recipe: str, model: str) -> Path:
    """`runs/<recipe>` where the recipe names its model, else `runs/<recipe>-<model>`."""
    last = Path(model).name
    return Path("runs") / (recipe if last == recipe else f"{recipe}-{last}")


RUN_RECIPE = Verb(
    "run",
    "every stage of a recipe, from the model to the report",
    run,
    (
        given("RECIPE", "a TOML file or an embedded recipe (default: organism)", TEXT, required=False),
        option("--model", "'organism', a Hugging Face id, a directory or a GGUF file", value="MODEL"),
        option("--profile", "quick, standard or full: keys that no recipe states", TEXT),
        option("--layers", "blocks to look at, by number or fraction of depth (default: all)", NUMBERS),
        option("--out", "run directory (default: runs/<recipe>-<model>)", PATH, value="DIR"),
        SET,
        option("--from", "redo this stage and everything after it", value="STAGE"),
        switch("--dry-run", "show what would be done"),
        option("--seed", "seed of everything random", WHOLE),
        option("--device", "cpu, cuda, cuda:1, mps", value="DEVICE"),
        option("--dtype", "float32, bfloat16 or float64", value="DTYPE"),
        option("--device-map", "spread a large model over devices, e.g. auto", value="MAP"),
        option("--memory-gb", "budget of passes over prompts, GiB", NUMBER),
        option("--revision", "branch, tag or commit of a Hugging Face id", value="REV"),
        CHECKS,
        TRUST,
        JSON,
        QUIET,
    ),
    (
        "emocircuits run",
        "emocircuits run analyses/recipes/debug.toml --out runs/debug",
        "emocircuits run --set sae.k=16 --from sae --dry-run",
        "emocircuits run --model smollm2-135m --profile quick",
    ),
    "Finished stages are skipped, an interrupted run resumes.",
)
STAGE = Verb(
    "stage",
    "redo one stage of a run",
    stage,
    (given("STAGE", f"one of {', '.join(ORDER)}", TEXT, choices=ORDER), RUN, SET, CHECKS, TRUST, QUIET),
    ("emocircuits stage circuit runs/organism --set circuit.max_nodes=30",),
    "What depends on it is out of date after that, until the next emocircuits run.",
)
