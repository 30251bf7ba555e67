"""`emocircuits match RUN`, the stage, and the verbs `match show|check|recur|compare` on a finished run."""

import argparse
from pathlib import Path

from emocircuits.cli.options import add_json, add_quiet, add_trust
from emocircuits.cli.tables import print_rows

VERBS = ("show", "check", "recur", "compare")
SHOWN = (
    "site",
    "feature",
    "kept",
    "delta",
    "attribution",
    "auroc",
    "cosine",
    "encoder_cosine",
    "specificity",
    "density",
    "p_value",
    "q_value",
    "also",
)
CHECKED = (
    "emotion",
    "site",
    "what",
    "feature",
    "behaviour",
    "intervention",
    "effect",
    "ci_low",
    "ci_high",
    "random_low",
    "random_high",
    "p_value",
    "q_value",
)


def add_verbs(commands: argparse._SubParsersAction) -> None:
    """`emocircuits match-show` and so on, which `emocircuits match show …` is rewritten to."""
    show = commands.add_parser(
        "match-show",
        help="the features of one emotion (also: match show)",
        epilog="example: emocircuits match show runs/organism desperate",
    )
    check = commands.add_parser(
        "match-check",
        help="push and take out every kept match of some emotions (also: match check)",
        epilog="example: emocircuits match check runs/organism --emotions desperate,calm",
    )
    recur = commands.add_parser(
        "match-recur",
        help="look for the matches in SAEs of other seeds (also: match recur)",
        epilog="example: emocircuits match recur runs/organism --seeds 3",
    )
    compare = commands.add_parser(
        "match-compare",
        help="SAE features next to what they must beat (also: match compare)",
        epilog="example: emocircuits match compare runs/organism --floors",
    )
    for parser in (show, check, recur, compare):
        parser.add_argument("directory", metavar="RUN", type=Path, help="a run directory")
        add_json(parser)
        add_quiet(parser)
        add_trust(parser)
    show.add_argument("emotion", metavar="EMOTION")
    show.add_argument("--site", metavar="SITE", help="only this site")
    show.add_argument("--csv", type=Path, metavar="FILE", help="write the table here instead")
    show.set_defaults(call=call_show)
    check.add_argument("--emotions", metavar="NAMES", help="comma-separated (default: the recipe's emotion)")
    check.add_argument("--csv", type=Path, metavar="FILE", help="write the table here instead")
    check.set_defaults(call=call_check)
    recur.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="SAEs with other seeds per site (default: 3)"
    )
    recur.add_argument(
        "--site", metavar="SITE[,SITE…]", help="which sites (default: the reading site; 'all')"
    )
    recur.set_defaults(call=call_recur)
    compare.add_argument("--site", metavar="SITE", help="which site (default: the reading site)")
    compare.add_argument(
        "--floors",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also SAEs that have learned nothing: frozen random decoder, model with shuffled weights",
    )
    compare.set_defaults(call=call_compare)


def rewrite(arguments: list[str]) -> list[str]:
    """`match show …` becomes `match-show …`; `match RUN` stays the stage."""
    if len(arguments) > 1 and arguments[0] == "match" and arguments[1] in VERBS:
        return [f"match-{arguments[1]}", *arguments[2:]]
    return arguments


def call_show(arguments: argparse.Namespace) -> int:
    """Prints or writes the table of one emotion."""
    from emocircuits.errors import unknown

    study = _study(arguments)
    table = study.emotion_table(arguments.emotion)
    if arguments.site is not None:
        if arguments.site not in study.matches.sites:
            raise unknown("site", arguments.site, study.matches.sites)
        table = table[table["site"] == arguments.site]
    return _out(table, arguments, SHOWN)


def call_check(arguments: argparse.Namespace) -> int:
    """Prints or writes the causal check."""
    study = _study(arguments)
    emotions = arguments.emotions.split(",") if arguments.emotions else [study.run.recipe.emotion]
    return _out(study.causal_check(emotions), arguments, CHECKED)


def call_recur(arguments: argparse.Namespace) -> int:
    """Prints one row per dictionary, or with --json those and every match."""
    study = _study(arguments)
    sites = (
        None
        if arguments.site is None
        else list(study.matches.sites)
        if arguments.site == "all"
        else arguments.site.split(",")
    )
    by_match, dictionaries = study.recur(arguments.seeds, sites)
    if arguments.json:
        return print_rows(
            [{"dictionaries": dictionaries.to_dict("records"), "matches": by_match.to_dict("records")}], True
        )
    print_rows(dictionaries.to_dict("records"), False)
    of = int(by_match["of"].max()) if len(by_match) else 0
    often = float((by_match["seeds"] * 2 > by_match["of"]).mean()) if len(by_match) else 0.0
    print(
        f"{len(by_match)} matches, {often:.0%} of them recur in most of {of} seeds: "
        f"{study.run.path('recur')}/recurrence.csv"
    )
    return 0


def call_compare(arguments: argparse.Namespace) -> int:
    """Prints the held-out AUROC of every reader."""
    return print_rows(_study(arguments).compare(arguments.site, floors=arguments.floors), arguments.json)


def _study(arguments: argparse.Namespace):
    from emocircuits.studies.match_studies import open_study

    return open_study(arguments.directory, arguments.trust_remote_code)


def _out(table, arguments: argparse.Namespace, columns: tuple[str, ...]) -> int:
    from emocircuits.io.documents import write_csv

    if arguments.csv:
        write_csv(arguments.csv, table)
        print(arguments.csv)
        return 0
    return print_rows(table.to_dict("records"), arguments.json, columns)
