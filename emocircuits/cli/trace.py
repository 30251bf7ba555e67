"""`emocircuits trace RUN --from EMOTION --behaviour NAME`: along which parts a push reaches the behaviour's
tokens.
"""

import argparse
import json
from pathlib import Path

from emocircuits.cli.options import add_json, add_quiet, add_trust


def add(commands: argparse._SubParsersAction) -> None:
    """`emocircuits trace`."""
    parser = commands.add_parser(
        "trace",
        help="split the effect of an emotion on a behaviour: onto the tokens directly, or through what",
        epilog="example: emocircuits trace runs/organism --from desperate --behaviour blackmail",
    )
    parser.add_argument("directory", metavar="RUN", type=Path, help="a finished run directory")
    parser.add_argument(
        "--from", dest="emotion", metavar="EMOTION", required=True, help="the emotion that is pushed along"
    )
    parser.add_argument("--behaviour", metavar="NAME", required=True, help="a behaviour of the run")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="change a recipe key, e.g. --set trace.strength=0.1 (repeatable)",
    )
    add_trust(parser)
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Prints the splits of the emotion, and the main shares of every control."""
    from emocircuits.studies.tracing import trace_run

    table = trace_run(
        arguments.directory,
        arguments.emotion,
        arguments.behaviour,
        overrides=tuple(arguments.overrides),
        trust_remote_code=arguments.trust_remote_code,
    )
    if arguments.json:
        print(json.dumps(table.to_dict("records")))
        return 0
    own = table[table["kind"] == "emotion"]
    for split, rows in own.groupby("split", sort=False):
        print(f"{arguments.emotion} -> {arguments.behaviour}, {split}")
        for row in rows.itertuples():
            print(
                f"  {row.part:<40} {row.amount:+9.4f}  [{row.ci_low:+.4f}, "
                f"{row.ci_high:+.4f}]  {row.share:+7.1%}"
            )
    print("controls: whole effect, and the share that the logits read directly")
    for (kind, name), rows in table[table["kind"] != "emotion"].groupby(["kind", "direction"], sort=False):
        by_part = rows[rows["split"].isin(["routes", "whole"])].set_index("part")
        whole, direct = by_part.loc["whole"], by_part.loc["direct"]
        print(
            f"  {kind:<8} {name:<28} {whole.amount:+9.4f}  [{whole.ci_low:+.4f}, {whole.ci_high:+.4f}]  "
            f"{direct.share:+8.1%}"
        )
    return 0
