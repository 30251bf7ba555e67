"""`emocircuits trace RUN`: along which parts a push along an emotion reaches a behaviour's tokens."""

import argparse
import json

from emocircuits.cli.verb import JSON, LOADING, QUIET, RUN, SET, Verb, loading, option


def trace(arguments: argparse.Namespace) -> int:
    """Prints the splits of the emotion, and the main shares of every control."""
    from emocircuits.studies.tracing import trace_run

    table = trace_run(
        arguments.run,
        arguments.emotion,
        arguments.behaviour,
        overrides=arguments.set,
        loading=loading(arguments),
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


TRACE = Verb(
    "trace",
    "what an emotion's effect on a behaviour passes through",
    trace,
    (
        RUN,
        option("--emotion", "the emotion that is pushed along", value="NAME", required=True, was="--from"),
        option("--behaviour", "a behaviour of the run", value="NAME", required=True),
        SET,
        *LOADING,
        JSON,
        QUIET,
    ),
    ("emocircuits trace runs/organism --emotion desperate --behaviour blackmail",),
)
