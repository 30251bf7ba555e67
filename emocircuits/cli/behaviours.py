"""`emocircuits behaviours MODEL`: how much of the model's probability each behaviour's words cover."""

import argparse

from emocircuits.cli.output import print_rows
from emocircuits.cli.verb import JSON, LOADING, NAMES, QUIET, TEXT, WHOLE, Verb, given, loading, option


def behaviours(arguments: argparse.Namespace) -> int:
    """Prints one row per behaviour, and the likeliest continuations that are none of its words."""
    from emocircuits.studies.behaviour_coverage import behaviour_coverage

    model = loading(arguments).load(arguments.model)
    rows = behaviour_coverage(model, arguments.names, pairs=arguments.pairs, seed=arguments.seed)
    told = ("left_out", "uncovered")
    print_rows(rows, arguments.json, None if arguments.json else [key for key in rows[0] if key not in told])
    if not arguments.json:
        for row in rows:
            if row["says"] != "rates":
                print(f"{row['behaviour']}: covered by none of its words: {row['uncovered']}")
            if row["left_out"]:
                print(f"{row['behaviour']}: no single tokens of this model: {row['left_out']}")
    return 0


BEHAVIOURS = Verb(
    "behaviours",
    "how much of what a model may write each behaviour's words cover",
    behaviours,
    (
        given("MODEL", "'organism', a Hugging Face id, a directory or a GGUF file", TEXT),
        option("--names", "which behaviours (default: all that fit the model)", NAMES, default=()),
        option("--pairs", "held-out prompt pairs of each", WHOLE, 16),
        option("--seed", "seed of the intervals", WHOLE, 0),
        *LOADING,
        JSON,
        QUIET,
    ),
    ("emocircuits behaviours smollm2-135m --names blackmail,blackmail_choice,blackmail_own",),
    "Below a half, 'log-odds only': the rate is a share of too little to be compared.",
)
