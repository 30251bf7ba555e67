"""`emocircuits sae RUN`, the stage, and the verbs `sae eval|compare|sweep|train|register|check` around it."""

import argparse
from pathlib import Path

from emocircuits.cli.options import add_json, add_quiet, add_trust
from emocircuits.cli.tables import print_rows

VERBS = ("eval", "compare", "sweep", "train", "register", "check")
SHOWN = (
    "site",
    "architecture",
    "d_sae",
    "k",
    "l0",
    "fvu",
    "frozen_fvu",
    "randomised_fvu",
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
    """`emocircuits sae-eval` and so on, which `emocircuits sae eval …` is rewritten to."""
    evaluate = commands.add_parser(
        "sae-eval",
        help="measure the SAEs of a run (also: sae eval)",
        epilog="example: emocircuits sae eval runs/organism --saes my_saes --json",
    )
    evaluate.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
    evaluate.add_argument(
        "--saes", metavar="DIR", type=Path, help="directory of SAEs, one per site (default: RUN/saes)"
    )
    _add_floors(evaluate)
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
    sweep.add_argument(
        "--expansion", metavar="N", help="d_sae / d_model, comma-separated (default: as the run's recipe)"
    )
    sweep.add_argument("--site", help="only this site (default: the middle one)")
    sweep.add_argument(
        "--training-rows", type=int, metavar="N", help="rows drawn (default: as the run's recipe)"
    )
    _add_floors(sweep)
    sweep.set_defaults(call=call_sweep)
    train = commands.add_parser(
        "sae-train",
        help="train SAEs straight from a model and texts, without a store (also: sae train)",
        epilog="example: emocircuits sae train texts.jsonl --model organism --out my_saes --set "
        "sae.training_rows=5_000_000",
    )
    train.add_argument(
        "texts", metavar="TEXTS", type=Path, help="one text a line, or JSON lines with the key 'text'"
    )
    train.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="directory of the SAEs, one per site"
    )
    train.add_argument(
        "--model", metavar="MODEL", default="organism", help="'organism', a Hugging Face id or a directory"
    )
    train.add_argument(
        "--site", metavar="SITE", action="append", default=[], help="only this site (repeatable)"
    )
    train.add_argument(
        "--recipe", metavar="RECIPE", help="whose [sae] table to use (default: the embedded recipe)"
    )
    train.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="change a recipe key, e.g. --set sae.k=16 (repeatable)",
    )
    train.set_defaults(call=call_train)
    enter = commands.add_parser(
        "sae-register",
        help="measure SAEs on a run's activations and enter them in a registry (also: sae register)",
        epilog="example: emocircuits sae register runs/organism --saes "
        "saes/organism-topk --name organism-topk",
    )
    enter.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
    enter.add_argument("--name", required=True, help="name of the entry")
    enter.add_argument(
        "--saes", metavar="DIR", type=Path, required=True, help="directory of SAEs beside the registry"
    )
    enter.add_argument("--recipe", default="", help="the recipe they were trained with, for the record")
    enter.set_defaults(call=call_register)
    check = commands.add_parser(
        "sae-check",
        help="measure registered SAEs on a run's activations; exit code 2 when one is "
        "far off (also: sae check)",
        epilog="example: emocircuits sae check runs/organism --name organism-topk",
    )
    check.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
    check.add_argument("--name", required=True, help="name of the entry")
    check.set_defaults(call=call_check)
    for parser in (enter, check):
        parser.add_argument(
            "--registry", metavar="FILE", type=Path, help="the registry (default: the one of the package)"
        )
    for parser in (evaluate, compare, sweep, enter, check):
        add_json(parser)
    for parser in (evaluate, compare, sweep, train, enter, check):
        add_quiet(parser)
    for parser in (evaluate, sweep, train, enter, check):
        add_trust(parser)


def _add_floors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--floors",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also train the floors to beat: a frozen random decoder, and the model with shuffled weights",
    )


def call_eval(arguments: argparse.Namespace) -> int:
    """Prints every quality number of the SAEs, and principal components of the same L0 beside them."""
    from emocircuits.studies.sae_studies import evaluate_saes

    rows = evaluate_saes(
        arguments.directory,
        arguments.saes,
        floors=arguments.floors,
        trust_remote_code=arguments.trust_remote_code,
    )
    return print_rows(rows, arguments.json, SHOWN)


def call_compare(arguments: argparse.Namespace) -> int:
    """Prints how well the features of two sets pair up."""
    from emocircuits.studies.sae_studies import compare_saes

    return print_rows(compare_saes(arguments.first, arguments.second), arguments.json, SHOWN)


def call_sweep(arguments: argparse.Namespace) -> int:
    """Trains and measures every combination."""
    from emocircuits.errors import UserError
    from emocircuits.studies.sae_studies import sweep_saes

    def numbers(option: str, text: str) -> list[int]:
        try:
            return [int(number) for number in text.split(",")]
        except ValueError:
            raise UserError(
                f"{option} {text}", expected="whole numbers, comma-separated, e.g. 8,16,32"
            ) from None

    rows = sweep_saes(
        arguments.directory,
        arguments.architectures.split(","),
        numbers("--k", arguments.k),
        expansions=numbers("--expansion", arguments.expansion) if arguments.expansion else (),
        site=arguments.site,
        training_rows=arguments.training_rows,
        floors=arguments.floors,
        trust_remote_code=arguments.trust_remote_code,
    )
    return print_rows(rows, arguments.json, SHOWN)


def call_train(arguments: argparse.Namespace) -> int:
    """Trains SAEs from a stream and prints where they lie."""
    from emocircuits.studies.sae_training import train_on_texts

    paths = train_on_texts(
        arguments.model,
        arguments.texts,
        arguments.out,
        sites=arguments.site,
        recipe=arguments.recipe,
        overrides=tuple(arguments.overrides),
        trust_remote_code=arguments.trust_remote_code,
    )
    for site, path in paths.items():
        print(f"{site}  {path}")
    return 0


def call_register(arguments: argparse.Namespace) -> int:
    """Measures SAEs and enters them."""
    from emocircuits.sae.loading.registered import shipped_registry
    from emocircuits.studies.sae_registry import register_saes

    rows = register_saes(
        arguments.directory,
        arguments.saes,
        arguments.name,
        arguments.registry or shipped_registry(),
        recipe=arguments.recipe,
        trust_remote_code=arguments.trust_remote_code,
    )
    return print_rows(rows, arguments.json, SHOWN)


def call_check(arguments: argparse.Namespace) -> int:
    """Measures registered SAEs; a mistake ends the command."""
    from emocircuits.sae.loading.registered import shipped_registry
    from emocircuits.studies.sae_registry import check_saes

    rows = check_saes(
        arguments.directory,
        arguments.name,
        arguments.registry or shipped_registry(),
        trust_remote_code=arguments.trust_remote_code,
    )
    return print_rows(rows, arguments.json, SHOWN)


def rewrite(arguments: list[str]) -> list[str]:
    """`sae eval …` becomes `sae-eval …`; `sae RUN` stays the stage."""
    if len(arguments) > 1 and arguments[0] == "sae" and arguments[1] in VERBS:
        return [f"sae-{arguments[1]}", *arguments[2:]]
    return arguments
