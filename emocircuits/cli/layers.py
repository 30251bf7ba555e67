"""`emocircuits layers MODEL`: where emotions read best, and where a push acts."""

import argparse
from typing import TYPE_CHECKING

from emocircuits.cli.output import print_rows
from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NAMES,
    NUMBERS,
    QUIET,
    TEXT,
    WHOLE,
    Verb,
    given,
    loading,
    option,
)

if TYPE_CHECKING:
    import pandas as pd


def layers(arguments: argparse.Namespace) -> int:
    """Prints one row per layer, and which reads best."""
    from dataclasses import replace

    from emocircuits.names import chosen_layers
    from emocircuits.studies.layer_scan import scan_layers

    model = loading(arguments).load(arguments.model)
    if arguments.layers:
        model = replace(model, layers=chosen_layers(arguments.layers, model.n_layers))
    table = scan_layers(
        model,
        arguments.material,
        emotions=arguments.emotions,
        stories=arguments.stories,
        seed=arguments.seed,
    )
    print_rows(table.to_dict("records"), arguments.json)
    if not arguments.json:
        print(f"emotions read best after block {_best(table, 'auroc')}")
        if table["push_z"].notna().any():  # some emotion's name is a single token
            print(f"a push raises their names most after block {_best(table, 'push_z')}")
    return 0


def _best(table: "pd.DataFrame", column: str) -> int:
    return int(table.loc[table[column].idxmax(), "layer"])


LAYERS = Verb(
    "layers",
    "which layers to look at: where emotions read best, where a push acts",
    layers,
    (
        given("MODEL", "'organism', a Hugging Face id, a directory or a GGUF file", TEXT),
        option("--layers", "blocks to try, by number or fraction of depth (default: all)", NUMBERS),
        option("--material", "where stories come from, as collect.material", TEXT, "organism"),
        option("--emotions", "which emotions (default: all of the material)", NAMES, default=()),
        option("--stories", "stories of an emotion to learn from", WHOLE, 16),
        option("--seed", "seed of texts and resamples", WHOLE, 0),
        *LOADING,
        JSON,
        QUIET,
    ),
    ("emocircuits layers smollm2-135m --emotions desperate,calm,happy,sad,angry,afraid",),
    "Minutes for a model of 135 million parameters. A run takes the numbers as `layers`.",
)
