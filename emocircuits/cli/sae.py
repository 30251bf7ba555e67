"""`emocircuits sae train|eval|compare|sweep|register|check`."""

import argparse

from emocircuits.cli.output import print_paths, print_rows
from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NAMES,
    PATH,
    QUIET,
    RUN,
    SET,
    WHOLE,
    WHOLES,
    Noun,
    Verb,
    given,
    loading,
    option,
    switch,
)

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
FLOORS = switch(
    "--floors", "also train the floors to beat: a frozen random decoder, and the model with shuffled weights"
)
NAME = option("--name", "name of the entry", value="NAME", required=True)
REGISTRY = option("--registry", "the registry (default: the one of the package)", PATH)


def train(arguments: argparse.Namespace) -> int:
    """Trains SAEs from a stream and prints where they lie."""
    from emocircuits.studies.sae_training import train_on_texts

    paths = train_on_texts(
        arguments.model,
        arguments.texts,
        arguments.out,
        sites=arguments.sites,
        recipe=arguments.recipe,
        overrides=arguments.set,
        loading=loading(arguments),
    )
    return print_paths(list(paths.values()), arguments.json)


def evaluate(arguments: argparse.Namespace) -> int:
    """Prints every quality number of the SAEs, and principal components of the same L0 next to them."""
    from emocircuits.studies.sae_studies import evaluate_saes

    rows = evaluate_saes(
        arguments.run,
        arguments.saes,
        floors=arguments.floors,
        loading=loading(arguments),
    )
    return print_rows(rows, arguments.json, SHOWN)


def compare(arguments: argparse.Namespace) -> int:
    """Prints how well the features of two sets pair up."""
    from emocircuits.studies.sae_studies import compare_saes

    return print_rows(compare_saes(arguments.first, arguments.second), arguments.json, SHOWN)


def sweep(arguments: argparse.Namespace) -> int:
    """Trains and measures every combination."""
    from emocircuits.studies.sae_studies import sweep_saes

    rows = sweep_saes(
        arguments.run,
        arguments.architectures,
        arguments.k,
        expansions=arguments.expansions,
        site=arguments.site,
        training_rows=arguments.training_rows,
        floors=arguments.floors,
        loading=loading(arguments),
    )
    return print_rows(rows, arguments.json, SHOWN)


def register(arguments: argparse.Namespace) -> int:
    """Measures SAEs and enters them."""
    from emocircuits.sae.loading.registered import shipped_registry
    from emocircuits.studies.sae_registry import register_saes

    rows = register_saes(
        arguments.run,
        arguments.saes,
        arguments.name,
        arguments.registry or shipped_registry(),
        recipe=arguments.recipe,
        loading=loading(arguments),
    )
    return print_rows(rows, arguments.json, SHOWN)


def check(arguments: argparse.Namespace) -> int:
    """Measures registered SAEs; a mistake ends the command."""
    from emocircuits.sae.loading.registered import shipped_registry
    from emocircuits.studies.sae_registry import check_saes

    rows = check_saes(
        arguments.run,
        arguments.name,
        arguments.registry or shipped_registry(),
        loading=loading(arguments),
    )
    return print_rows(rows, arguments.json, SHOWN)


NOUN = Noun(
    "sae",
    "sparse autoencoders",
    (
        Verb(
            "sae train",
            "train SAEs straight from a model and texts, without a store",
            train,
            (
                given("TEXTS", "one text a line, or JSON lines with the key 'text'"),
                option("--out", "directory of the SAEs, one per site", PATH, value="DIR", required=True),
                option(
                    "--model",
                    "'organism', a Hugging Face id or a directory",
                    value="MODEL",
                    default="organism",
                ),
                option("--sites", "only these sites (default: all)", NAMES, (), was="--site"),
                option("--recipe", "whose [sae] table to use (default: organism)", value="RECIPE"),
                SET,
                *LOADING,
                JSON,
                QUIET,
            ),
            (
                "emocircuits sae train texts.jsonl --out my_saes",
                "emocircuits sae train texts.jsonl --out my_saes --set sae.training_rows=5_000_000",
            ),
            "The same command resumes after an interruption.",
        ),
        Verb(
            "sae eval",
            "measure the SAEs of a run",
            evaluate,
            (
                RUN,
                option("--saes", "SAEs to measure, one per site (default: RUN/saes)", PATH, value="DIR"),
                FLOORS,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits sae eval runs/organism --saes my_saes --json",),
        ),
        Verb(
            "sae compare",
            "how alike two sets of SAEs are, next to chance",
            compare,
            (
                given("FIRST", "directory of SAEs, one per site"),
                given("SECOND", "another"),
                JSON,
                QUIET,
            ),
            ("emocircuits sae compare runs/seed0/saes runs/seed1/saes",),
        ),
        Verb(
            "sae sweep",
            "train SAEs with several k and kinds on a run's activations",
            sweep,
            (
                RUN,
                option("--k", "active features per token", WHOLES, (8, 16, 32, 64)),
                option("--architectures", "kinds", NAMES, ("topk",)),
                option(
                    "--expansions", "d_sae / d_model (default: the recipe's)", WHOLES, (), was="--expansion"
                ),
                option("--site", "only this site (default: the middle one)", value="SITE"),
                option("--training-rows", "rows drawn (default: the recipe's)", WHOLE),
                FLOORS,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits sae sweep runs/organism --k 8,16,32 --architectures topk,batchtopk",),
        ),
        Verb(
            "sae register",
            "measure SAEs on a run's activations and enter them in a registry",
            register,
            (
                RUN,
                NAME,
                option("--saes", "SAEs next to the registry", PATH, value="DIR", required=True),
                option("--recipe", "the recipe they were trained with, for the record", default=""),
                REGISTRY,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits sae register runs/organism --name mine --saes saes/mine",),
        ),
        Verb(
            "sae check",
            "measure registered SAEs on a run's activations",
            check,
            (RUN, NAME, REGISTRY, *LOADING, JSON, QUIET),
            ("emocircuits sae check runs/organism --name organism-topk",),
            "The exit code is 2 when one is far off.",
        ),
    ),
)
