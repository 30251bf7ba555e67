"""`emocircuits organism train|sample|evaluate|card`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from emocircuits.cli.output import print_paths
from emocircuits.cli.verb import JSON, PATH, QUIET, TEXT, WHOLE, Noun, Verb, given, option, switch

SEED = option("--seed", "seed of everything random", WHOLE, 0)


def train(arguments: argparse.Namespace) -> int:
    """Trains the organism, measures it, writes its model card and prints where it lies."""
    from emocircuits.experiments.organism_bars import organism_bars
    from emocircuits.organism.card import write_card
    from emocircuits.organism.train import train_organism

    directory = train_organism(arguments.out, seed=arguments.seed, resume=arguments.resume)
    write_card(directory, extra={"must_hold": [asdict(bar) for bar in organism_bars(str(directory))]})
    return print_paths([arguments.out], arguments.json)


def sample(arguments: argparse.Namespace) -> int:
    """Prints documents."""
    from emocircuits.organism.corpus import generate

    for document in generate(arguments.kind, arguments.count, seed=arguments.seed, split=arguments.split):
        if arguments.json:
            print(json.dumps(document_dict(document)))
            continue
        levels = " ".join(f"{name}={level:+d}" for name, level in document.levels.items())
        print(
            f"--- {document.id}  emotion: {document.emotion or 'none'}  topic: "
            f"{document.topic or '-'}  {levels}"
        )
        print(document.text)
        for decision in document.decisions:
            print(
                f"    P({decision.options[0]}) = {decision.p_true:.3f} given the latents, "
                f"{decision.p_bayes:.3f} given the text; drawn: {decision.action}"
            )
    return 0


def document_dict(document: object) -> dict:
    """A document as plain values."""
    value = {
        name: getattr(document, name) for name in ("id", "kind", "text", "split", "emotion", "topic", "named")
    }
    value |= {
        "levels": dict(document.levels),
        "shown": list(document.shown),
        "decisions": [
            {
                "prefix": d.prefix,
                "action": d.action,
                "options": list(d.options),
                "p_true": d.p_true,
                "p_bayes": d.p_bayes,
                "state": dict(d.state),
            }
            for d in document.decisions
        ],
    }
    if document.sides:
        value |= {"sides": list(document.sides), "other": document.other[0], "mask": document.mask}
    value["feelings"] = [
        {"prefix": d.prefix, "emotion": d.action, "posterior": dict(d.target())} for d in document.feelings
    ]
    return value


def evaluate(arguments: argparse.Namespace) -> int:
    """Prints the table of bars; exit code 1 when one is missed."""
    from emocircuits.experiments.organism_bars import organism_bars

    bars = organism_bars(arguments.model)
    if arguments.json:
        print(json.dumps([asdict(bar) for bar in bars]))
    else:
        for bar in bars:
            print(f"{'ok ' if bar.passes else 'NO '} {bar.name:<58} {bar.value:>9.4f}   {bar.bar}")
    return 0 if all(bar.passes for bar in bars) else 1


def card(arguments: argparse.Namespace) -> int:
    """Prints the model card."""
    from emocircuits.organism.card import load_card

    card = load_card()
    if arguments.json:
        print(json.dumps(card))
        return 0
    for name, value in card.items():
        print(f"{name:<28} {json.dumps(value) if isinstance(value, dict | list) else value}")
    return 0


NOUN = Noun(
    "organism",
    "the model in the package",
    (
        Verb(
            "organism train",
            "train it from nothing",
            train,
            (
                option("--out", "model directory to write", PATH, Path("organism"), value="DIR"),
                SEED,
                switch("--resume", "begin again instead of resuming from the last checkpoint", on=True),
                JSON,
                QUIET,
            ),
            ("emocircuits organism train --out organism --seed 0",),
            "The same command resumes after an interruption.",
        ),
        Verb(
            "organism sample",
            "print documents of its corpus with their latents and true probabilities",
            sample,
            (
                given(
                    "KIND",
                    "kind of document: story, dialogue, masked, neutral, numeric, inbox, coding, …",
                    TEXT,
                ),
                option("--count", "how many", WHOLE, 3, was="-n"),
                SEED,
                option("--split", "which documents", default="train", choices=("train", "held_out")),
                JSON,
            ),
            ("emocircuits organism sample inbox --count 2 --json",),
        ),
        Verb(
            "organism evaluate",
            "measure it against the truth: every bar with its number",
            evaluate,
            (
                option("--model", "'organism' or a directory made by train", value="DIR", default="organism"),
                JSON,
                QUIET,
            ),
            ("emocircuits organism evaluate --json",),
            "The exit code is 1 when a bar is missed.",
        ),
        Verb(
            "organism card",
            "its model card: corpus, training, every measured number",
            card,
            (JSON,),
            ("emocircuits organism card",),
        ),
    ),
)
