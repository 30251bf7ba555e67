"""`emocircuits match show|check|recur|compare RUN`."""

import argparse

from emocircuits.cli.output import print_paths, print_rows
from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NAMES,
    PATH,
    QUIET,
    RUN,
    WHOLE,
    Noun,
    Verb,
    loading,
    option,
    switch,
)

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
CSV = option("--csv", "write the table here instead", PATH)


def show_matches(arguments: argparse.Namespace) -> int:
    """Prints or writes the table of one emotion."""
    from emocircuits.errors import unknown

    study = _study(arguments)
    table = study.emotion_table(arguments.emotion or study.run.recipe.emotion)
    if arguments.site is not None:
        if arguments.site not in study.matches.sites:
            raise unknown("site", arguments.site, study.matches.sites)
        table = table[table["site"] == arguments.site]
    return _out(table, arguments, SHOWN)


def check(arguments: argparse.Namespace) -> int:
    """Prints or writes the causal check."""
    study = _study(arguments)
    emotions = list(arguments.emotions) or [study.run.recipe.emotion]
    return _out(study.causal_check(emotions), arguments, CHECKED)


def recur(arguments: argparse.Namespace) -> int:
    """Prints one row per dictionary, or with --json those and every match."""
    study = _study(arguments)
    sites = list(study.matches.sites) if arguments.sites == ("all",) else list(arguments.sites) or None
    by_match, dictionaries = study.recur(arguments.seeds, sites)
    if arguments.json:
        return print_rows(
            [{"dictionaries": dictionaries.to_dict("records"), "matches": by_match.to_dict("records")}], True
        )
    print_rows(dictionaries.to_dict("records"), False)
    seeds = int(by_match["of"].max()) if len(by_match) else 0
    share = float((by_match["seeds"] * 2 > by_match["of"]).mean()) if len(by_match) else 0.0
    print(
        f"{len(by_match)} matches, {share:.0%} of them recur in most of {seeds} seeds: "
        f"{study.run.path('recur')}/recurrence.csv"
    )
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Prints the held-out AUROC of every reader."""
    return print_rows(_study(arguments).compare(arguments.site, floors=arguments.floors), arguments.json)


def _study(arguments: argparse.Namespace):
    from emocircuits.studies.match_studies import open_study

    return open_study(arguments.run, loading(arguments))


def _out(table, arguments: argparse.Namespace, columns: tuple[str, ...]) -> int:
    from emocircuits.io.documents import write_csv

    if arguments.csv:
        write_csv(arguments.csv, table)
        return print_paths([arguments.csv], arguments.json)
    return print_rows(table.to_dict("records"), arguments.json, columns)


NOUN = Noun(
    "match",
    "SAE features of emotions",
    (
        Verb(
            "match show",
            "the features of one emotion, kept ones first",
            show_matches,
            (
                RUN,
                option("--emotion", "default: the recipe's emotion", value="NAME"),
                option("--site", "only this site", value="SITE"),
                CSV,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits match show runs/organism --emotion desperate",),
        ),
        Verb(
            "match check",
            "push and take out every kept match of some emotions",
            check,
            (
                RUN,
                option("--emotions", "default: the recipe's emotion", NAMES, ()),
                CSV,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits match check runs/organism --emotions desperate,calm",),
        ),
        Verb(
            "match recur",
            "look for the matches in SAEs of other seeds",
            recur,
            (
                RUN,
                option("--seeds", "SAEs with other seeds per site", WHOLE, 3),
                option(
                    "--sites", "which sites, or 'all' (default: the reading site)", NAMES, (), was="--site"
                ),
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits match recur runs/organism --seeds 3",),
        ),
        Verb(
            "match compare",
            "SAE features next to what they must beat",
            compare,
            (
                RUN,
                option("--site", "which site (default: the reading site)", value="SITE"),
                switch(
                    "--floors",
                    "also SAEs that have learned nothing: frozen random decoder, model with shuffled weights",
                ),
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits match compare runs/organism --floors",),
        ),
    ),
)
