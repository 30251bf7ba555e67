"""`emocircuits sae RUN`, the stage, and `emocircuits sae eval|compare|sweep`: measure, compare and vary SAEs."""

import argparse
import json
from pathlib import Path
from typing import Any

from emocircuits.cli.options import add_json, add_quiet, add_trust

SHOWN = (
    "site",
    "architecture",
    "d_sae",
    "k",
    "l0",
    "fvu",
    "frozen_fvu",
    "pca_fvu",
    "ce_loss_recovered",
    "ce_increase",
    "kl",
    "dead_fraction",
    "dense_fraction",
    "shrinkage",
    "mean_cosine",
    "same_fraction",
    "chance_cosine",
)


def add_verbs(commands: argparse._SubParsersAction) -> None:
    """`emocircuits sae-eval`, `sae-compare`, `sae-sweep`, which `emocircuits sae eval …` is rewritten to."""
    evaluate = commands.add_parser(
        "sae-eval",
        help="measure the SAEs of a run (also: sae eval)",
        epilog="example: emocircuits sae eval runs/organism --saes my_saes --json",
    )
    evaluate.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
    evaluate.add_argument("--saes", metavar="DIR", type=Path, help="directory of SAEs, one per site (default: RUN/saes)")
    evaluate.set_defaults(call=call_eval)
    compare = commands.add_parser(
        "sae-compare",
        help="how alike two sets of SAEs are, next to chance (also: sae compare)",
        epilog="example: emocircuits sae compare runs/seed0/saes runs/seed1/saes",
    )
    compare.add_argument("first", metavar="DIR", type=Path, help="directory of SAEs, one per site")
    compare.add_argument("second", metavar="DIR", type=Path, help="another")
    compare.set_defaults(call=call_compare)
    sweep = commands.add_parser(
        "sae-sweep",
        help="train SAEs with several k and kinds on a run's activations (also: sae sweep)",
        epilog="example: emocircuits sae sweep runs/organism --k 8,16,32 --architectures topk,batchtopk",
    )
    sweep.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
    sweep.add_argument("--k", default="8,16,32,64", help="active features per token, comma-separated")
    sweep.add_argument("--architectures", default="topk", help="kinds, comma-separated")
    sweep.add_argument("--site", help="only this site (default: the middle one)")
    sweep.add_argument("--training-rows", type=int, metavar="N", help="rows drawn (default: as the run's recipe)")
    sweep.add_argument(
        "--floors",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also train each with a frozen random decoder, the floor to beat",
    )
    sweep.set_defaults(call=call_sweep)
    for parser in (evaluate, compare, sweep):
        add_json(parser)
        add_quiet(parser)
    for parser in (evaluate, sweep):
        add_trust(parser)


def call_eval(arguments: argparse.Namespace) -> int:
    """Prints every quality number of the SAEs, and principal components of the same L0 beside them."""
    from emocircuits.pipeline.sae_studies import evaluate_saes

    return _print(
        evaluate_saes(arguments.directory, arguments.saes, trust_remote_code=arguments.trust_remote_code), arguments.json
    )


def call_compare(arguments: argparse.Namespace) -> int:
    """Prints how well the features of two sets pair up."""
    from emocircuits.pipeline.sae_studies import compare_saes

    return _print(compare_saes(arguments.first, arguments.second), arguments.json)


def call_sweep(arguments: argparse.Namespace) -> int:
    """Trains and measures every combination."""
    from emocircuits.errors import UserError
    from emocircuits.pipeline.sae_studies import sweep_saes

    try:
        numbers = [int(text) for text in arguments.k.split(",")]
    except ValueError:
        raise UserError(f"--k {arguments.k}", expected="whole numbers, comma-separated, e.g. 8,16,32") from None
    rows = sweep_saes(
        arguments.directory,
        arguments.architectures.split(","),
        numbers,
        site=arguments.site,
        training_rows=arguments.training_rows,
        floors=arguments.floors,
        trust_remote_code=arguments.trust_remote_code,
    )
    return _print(rows, arguments.json)


def rewrite(arguments: list[str]) -> list[str]:
    """`sae eval …` becomes `sae-eval …`; `sae RUN` stays the stage."""
    if len(arguments) > 1 and arguments[0] == "sae" and arguments[1] in ("eval", "compare", "sweep"):
        return [f"sae-{arguments[1]}", *arguments[2:]]
    return arguments


def _print(rows: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        print(json.dumps(rows))
        return 0
    names = [name for name in SHOWN if name in rows[0]]
    cells = [names] + [
        [f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows
    ]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0
