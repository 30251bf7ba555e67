"""`emocircuits run` and one subcommand per stage."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from emocircuits.cli.graphs import add_export_options, add_figure_options, call_export, call_figures
from emocircuits.cli.options import add_json, add_quiet, add_trust
from emocircuits.stages import ORDER as STAGE_NAMES


def add_run(commands: argparse._SubParsersAction) -> None:
    """`emocircuits run`."""
    parser = commands.add_parser(
        "run",
        help="run a recipe: every stage from model to report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs every stage of a recipe; finished stages are skipped, an interrupted run goes on.",
        epilog="examples:\n  emocircuits run\n  emocircuits run "
        "analyses/recipes/debug.toml --out runs/debug\n"
        "  emocircuits run --set sae.k=16 --from sae --dry-run",
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="a TOML file or an embedded recipe (default: organism)"
    )
    parser.add_argument("--model", metavar="MODEL", help="'organism', a Hugging Face id or a directory")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="run directory (default: runs/<recipe>-<model>)"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="change a recipe key, e.g. --set sae.k=16 (repeatable)",
    )
    parser.add_argument(
        "--from", metavar="STAGE", dest="start", help="redo this stage and everything after it"
    )
    parser.add_argument(
        "--dry-run", action=argparse.BooleanOptionalAction, default=False, help="show what would be done"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", metavar="DTYPE", help="float32, bfloat16 or float64")
    parser.add_argument(
        "--device-map", metavar="MAP", dest="device_map", help="spread a large model over devices, e.g. auto"
    )
    parser.add_argument(
        "--memory-gb", type=float, metavar="GB", dest="memory_gb", help="budget for passes over prompts, GiB"
    )
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of a Hugging Face id")
    add_trust(parser)
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(call=call_run)


def add_stages(commands: argparse._SubParsersAction) -> None:
    """One subcommand per stage, on a run directory."""
    for name in STAGE_NAMES:
        parser = commands.add_parser(
            name,
            help=f"run only the stage '{name}' of a run directory",
            epilog=f"example: emocircuits {name} runs/organism",
        )
        parser.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
        parser.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            dest="overrides",
            help="change a recipe key (repeatable)",
        )
        if name == "export":
            add_export_options(parser)
        if name == "figures":
            add_figure_options(parser)
        add_trust(parser)
        add_quiet(parser)
        parser.set_defaults(call=call_stage, stage=name)


def call_run(arguments: argparse.Namespace) -> int:
    """Runs the recipe and prints where the report lies."""
    from emocircuits.runs.recipe import load_recipe

    overrides = list(arguments.overrides)
    recipe = load_recipe(arguments.recipe, tuple(overrides))
    changes = {
        key: getattr(arguments, key)
        for key in ("model", "seed", "device", "dtype", "device_map", "revision", "memory_gb")
        if getattr(arguments, key) is not None
    }
    recipe = replace(recipe, **changes)
    directory = arguments.out or default_directory(recipe.name, recipe.model)

    from emocircuits.runs.execute import plan_lines, run_pipeline

    if arguments.dry_run:
        lines = plan_lines(
            recipe, directory, start=arguments.start, trust_remote_code=arguments.trust_remote_code
        )
        if arguments.json:
            print(json.dumps([{"stage": name, "state": state} for name, state, _ in lines]))
        else:
            print(f"run directory: {directory}")
            for name, state, does in lines:
                print(f"  {name:<10} {state:<11} {does}")
        return 0
    run_pipeline(recipe, directory, start=arguments.start, trust_remote_code=arguments.trust_remote_code)
    if arguments.json:
        print((directory / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        print(f"report:  {directory / 'report.html'}\nsummary: {directory / 'summary.json'}")
    return 0


def call_stage(arguments: argparse.Namespace) -> int:
    """Runs one stage of an existing run directory; `export --format` and `figures --only` write files without
    running anything.
    """
    if getattr(arguments, "formats", None):
        return call_export(arguments)
    if arguments.stage == "figures" and (arguments.only or arguments.venue or arguments.out):
        return call_figures(arguments)

    from emocircuits.runs.execute import run_pipeline
    from emocircuits.runs.run import Run

    recipe = Run.open(arguments.directory, tuple(arguments.overrides)).recipe
    run_pipeline(
        recipe, arguments.directory, only=arguments.stage, trust_remote_code=arguments.trust_remote_code
    )
    return 0


def default_directory(recipe: str, model: str) -> Path:
    """`runs/<recipe>` where the recipe names its model, else `runs/<recipe>-<model>`."""
    last = Path(model).name
    return Path("runs") / (recipe if last == recipe else f"{recipe}-{last}")
