"""`emocircuits steer text|curve|check RUN`."""

import argparse
import json
from typing import Any

from emocircuits.cli.output import print_rows
from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NAMES,
    NUMBER,
    NUMBERS,
    PATH,
    QUIET,
    WHOLE,
    Noun,
    Verb,
    given,
    loading,
    option,
)

RUN = given("RUN", "a run directory, or a directions.h5", was="--directions")
SITES = option(
    "--sites", "where to push, or 'all' (default: the directions' steering site)", NAMES, (), was="--site"
)
MODEL = option("--model", "default: the run's own", value="MODEL")
SEED = option("--seed", "seed of everything random", WHOLE, 0)


def text(arguments: argparse.Namespace) -> int:
    """Prints the unsteered text and one for every strength."""
    from emocircuits.interventions.positions import parse_positions, parse_schedule
    from emocircuits.studies.steer_studies import steer_text

    positions = parse_positions(arguments.positions)
    schedule = parse_schedule(arguments.schedule) if arguments.schedule else None
    model, directions = _pair(arguments)
    rows = steer_text(
        model,
        directions,
        arguments.emotion,
        arguments.strengths,
        arguments.prompt,
        n_tokens=arguments.tokens,
        sites=_sites(arguments.sites, directions),
        positions=positions,
        schedule=schedule,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        name = "unsteered" if not row["strength"] else f"{arguments.emotion} {row['strength']:+g}"
        print(f"--- {name}\n{arguments.prompt} [{row['text'].strip()}]")
    return 0


def curve(arguments: argparse.Namespace) -> int:
    """Prints slopes next to the largest of each kind of control."""
    from emocircuits.io.documents import write_csv
    from emocircuits.studies.steer_studies import steer_curve

    model, directions = _pair(arguments)
    table, slopes = steer_curve(
        model,
        directions,
        list(arguments.emotions),
        list(arguments.behaviours),
        sites=_sites(arguments.sites, directions),
        strengths=arguments.strengths,
        prompts=arguments.prompts,
        split=arguments.split,
        seed=arguments.seed,
    )
    if arguments.csv:
        write_csv(arguments.csv, table)
    return print_rows(slopes.to_dict("records"), arguments.json)


def check(arguments: argparse.Namespace) -> int:
    """Prints the largest change of a logit at every site."""
    from emocircuits.studies.steer_studies import steer_check

    model, directions = _pair(arguments)
    return print_rows(steer_check(model, directions, arguments.emotion), arguments.json)


def _pair(arguments: argparse.Namespace) -> tuple[Any, Any]:
    from emocircuits.studies.steer_studies import open_pair

    return open_pair(
        arguments.run,
        arguments.model,
        loading=loading(arguments),
    )


def _sites(names: tuple[str, ...], directions: Any) -> list[str] | None:
    return list(directions.sites) if names == ("all",) else list(names) or None


NOUN = Noun(
    "steer",
    "push along emotions",
    (
        Verb(
            "steer text",
            "let a model write with and without steering",
            text,
            (
                RUN,
                option("--emotion", "which direction", value="NAME", required=True),
                option(
                    "--strengths",
                    "fractions of the mean residual norm",
                    NUMBERS,
                    required=True,
                    was="--strength",
                ),
                option("--prompt", "how the text begins", required=True),
                option("--tokens", "tokens to write", WHOLE, 40),
                option(
                    "--positions",
                    "all, generated, a span 12:30, or a list 3,7",
                    value="WHERE",
                    default="all",
                ),
                option(
                    "--schedule", "ramp:START:STOP or fade:HALF_LIFE[:START], over positions", value="WHEN"
                ),
                option("--temperature", "0 takes the most likely token", NUMBER, 1.0),
                SITES,
                MODEL,
                SEED,
                *LOADING,
                JSON,
                QUIET,
            ),
            (
                "emocircuits steer text runs/organism --emotion calm --strengths -0.1,0.1 "
                '--prompt "Alex decided to"',
            ),
        ),
        Verb(
            "steer curve",
            "dose–response of behaviours next to all controls",
            curve,
            (
                RUN,
                option("--emotions", "which directions", NAMES, ("desperate", "calm")),
                option("--behaviours", "which behaviours", NAMES, ("blackmail", "reward_hacking")),
                option(
                    "--strengths",
                    "fractions of the mean residual norm",
                    NUMBERS,
                    (-0.5, -0.25, 0.0, 0.25, 0.5),
                ),
                option("--prompts", "prompts per behaviour", WHOLE, 24),
                option(
                    "--split",
                    "find a site or strength, or score it",
                    default="score",
                    choices=("find", "score"),
                ),
                option("--csv", "write the whole dose–response table here", PATH),
                SITES,
                MODEL,
                SEED,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits steer curve runs/organism --emotions desperate,calm --sites all",),
        ),
        Verb(
            "steer check",
            "does steering act at every site, and end?",
            check,
            (
                RUN,
                option("--emotion", "which direction", value="NAME", default="desperate"),
                MODEL,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits steer check runs/organism",),
        ),
    ),
)
