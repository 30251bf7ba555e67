"""`emocircuits steer RUN`, the stage, and the verbs `steer text|curve|check` with any model and directions
file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from emocircuits.cli.options import add_json, add_quiet, add_trust
from emocircuits.cli.tables import print_rows

VERBS = ("text", "curve", "check")


def add_verbs(commands: argparse._SubParsersAction) -> None:
    """`emocircuits steer-text` and so on, which `emocircuits steer text …` is rewritten to."""
    text = commands.add_parser(
        "steer-text",
        help="let a model write with and without steering (also: steer text)",
        epilog="example: emocircuits steer text --directions runs/organism/directions.h5 --emotion calm "
        '--strength 0.1 --prompt "Alex decided to"',
    )
    text.add_argument("--emotion", required=True, metavar="NAME", help="which direction")
    text.add_argument(
        "--strength",
        required=True,
        metavar="X[,X…]",
        help="fractions of the mean residual norm, e.g. -0.1,0.1",
    )
    text.add_argument("--prompt", required=True, metavar="TEXT")
    text.add_argument("--tokens", type=int, default=40, metavar="N", help="tokens to write (default: 40)")
    text.add_argument(
        "--positions", default="all", metavar="WHERE", help="all, generated, a span 12:30, or a list 3,7"
    )
    text.add_argument(
        "--schedule", metavar="S", help="ramp:START:STOP or fade:HALF_LIFE[:START], over positions"
    )
    text.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 takes the most likely token"
    )
    text.set_defaults(call=call_text)
    curve = commands.add_parser(
        "steer-curve",
        help="dose–response of behaviours next to all controls (also: steer curve)",
        epilog="example: emocircuits steer curve --directions runs/organism/directions.h5 --emotions "
        "desperate,calm --site all",
    )
    curve.add_argument(
        "--emotions",
        default="desperate,calm",
        metavar="NAMES",
        help="comma-separated (default: desperate,calm)",
    )
    curve.add_argument(
        "--behaviours", default="blackmail,reward_hacking", metavar="NAMES", help="comma-separated"
    )
    curve.add_argument(
        "--strengths",
        default="-0.5,-0.25,0,0.25,0.5",
        metavar="X,…",
        help="fractions of the mean residual norm",
    )
    curve.add_argument(
        "--prompts", type=int, default=24, metavar="N", help="prompts per behaviour (default: 24)"
    )
    curve.add_argument(
        "--split", default="score", choices=("find", "score"), help="find a site or strength, or score it"
    )
    curve.add_argument("--csv", type=Path, metavar="FILE", help="write the whole dose–response table here")
    curve.set_defaults(call=call_curve)
    check = commands.add_parser(
        "steer-check",
        help="does steering act at every site, and end? (also: steer check)",
        epilog="example: emocircuits steer check --directions runs/organism/directions.h5",
    )
    check.add_argument(
        "--emotion", default="desperate", metavar="NAME", help="which direction (default: desperate)"
    )
    check.set_defaults(call=call_check)
    for parser in (text, curve, check):
        parser.add_argument(
            "--model",
            default="organism",
            metavar="MODEL",
            help="'organism', a Hugging Face id or a directory",
        )
        parser.add_argument(
            "--directions",
            required=True,
            type=Path,
            metavar="FILE",
            help="a directions.h5, or a run directory",
        )
        parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, mps")
        add_trust(parser)
        add_quiet(parser)
        add_json(parser)
    for parser in (text, curve):
        parser.add_argument(
            "--site",
            metavar="SITE[,SITE…]",
            help="hook names (default: the directions' steering site; 'all')",
        )
        parser.add_argument("--seed", type=int, default=0, metavar="N")


def rewrite(arguments: list[str]) -> list[str]:
    """`steer text …` becomes `steer-text …`; `steer RUN` stays the stage. `--strength -0.1,0.1` may do
    without its `=`.
    """
    if len(arguments) < 2 or arguments[0] != "steer" or arguments[1] not in VERBS:
        return arguments
    joined = [f"steer-{arguments[1]}"]
    for word in arguments[2:]:
        if joined[-1] in ("--strength", "--strengths"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def call_text(arguments: argparse.Namespace) -> int:
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
        _numbers(arguments.strength, "--strength"),
        arguments.prompt,
        n_tokens=arguments.tokens,
        sites=_sites(arguments.site, directions),
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


def call_curve(arguments: argparse.Namespace) -> int:
    """Prints slopes next to the largest of each kind of control."""
    from emocircuits.io.documents import write_csv
    from emocircuits.studies.steer_studies import steer_curve

    strengths = _numbers(arguments.strengths, "--strengths")
    model, directions = _pair(arguments)
    table, slopes = steer_curve(
        model,
        directions,
        arguments.emotions.split(","),
        arguments.behaviours.split(","),
        sites=_sites(arguments.site, directions),
        strengths=strengths,
        prompts=arguments.prompts,
        split=arguments.split,
        seed=arguments.seed,
    )
    if arguments.csv:
        write_csv(arguments.csv, table)
    return print_rows(slopes.to_dict("records"), arguments.json)


def call_check(arguments: argparse.Namespace) -> int:
    """Prints the largest change of a logit at every site."""
    from emocircuits.studies.steer_studies import steer_check

    model, directions = _pair(arguments)
    return print_rows(steer_check(model, directions, arguments.emotion), arguments.json)


def _pair(arguments: argparse.Namespace) -> tuple[Any, Any]:
    from emocircuits.studies.steer_studies import open_pair

    return open_pair(
        arguments.model,
        arguments.directions,
        device=arguments.device,
        trust_remote_code=arguments.trust_remote_code,
    )


def _sites(text: str | None, directions: Any) -> list[str] | None:
    if text is None:
        return None
    return list(directions.sites) if text == "all" else text.split(",")


def _numbers(text: str, option: str) -> list[float]:
    from emocircuits.errors import UserError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} {text}", expected="numbers, comma-separated, e.g. -0.1,0.1") from None
