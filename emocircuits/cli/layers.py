"""`emocircuits layers MODEL`: where emotions read best, and where a push acts."""

import argparse

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
        best, acts = (int(table.loc[table[name].idxmax(), "layer"]) for name in ("auroc", "push_z"))
        print(f"emotions read best after block {best}; a push raises their names most after block {acts}")
    return 0


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
