"""`emocircuits organism train|sample|evaluate|card`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from emocircuits.cli.options import add_json, add_quiet


def add(commands: argparse._SubParsersAction) -> None:
    """`emocircuits organism`."""
    parser = commands.add_parser("organism", help="the small language model that ships with the package")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    train = verbs.add_parser(
        "train",
        help="train it from nothing (resumes after an interruption)",
        epilog="example: emocircuits organism train --out organism --seed 0",
    )
    train.add_argument(
        "--out", type=Path, default=Path("organism"), metavar="DIR", help="model directory to write"
    )
    train.add_argument("--seed", type=int, default=0, metavar="N")
    train.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from the last checkpoint"
    )
    add_quiet(train)
    train.set_defaults(call=call_train)

    sample = verbs.add_parser(
        "sample",
        help="print documents of its corpus with their latents and true probabilities",
        epilog="example: emocircuits organism sample inbox -n 2 --json",
    )
    sample.add_argument(
        "kind",
        metavar="KIND",
        help="story, dialogue, masked, neutral, numeric, inbox, coding, sycophancy, preference, activity",
    )
    sample.add_argument("-n", type=int, default=3, metavar="N", help="how many")
    sample.add_argument("--seed", type=int, default=0, metavar="N")
    sample.add_argument("--split", choices=("train", "held_out"), default="train")
    add_json(sample)
    sample.set_defaults(call=call_sample)

    evaluate = verbs.add_parser(
        "evaluate",
        help="measure it against the truth: every bar with its number",
        epilog="example: emocircuits organism evaluate --json",
    )
    evaluate.add_argument(
        "--model", default="organism", metavar="DIR", help="'organism' or a directory made by train"
    )
    add_quiet(evaluate)
    add_json(evaluate)
    evaluate.set_defaults(call=call_evaluate)

    card = verbs.add_parser("card", help="its model card: corpus, training, every measured number")
    add_json(card)
    card.set_defaults(call=call_card)


def call_train(arguments: argparse.Namespace) -> int:
    """Trains the organism, measures it, writes its model card and prints where it lies."""
    from emocircuits.experiments.organism_bars import organism_bars
    from emocircuits.organism.card import write_card
    from emocircuits.organism.train import train_organism

    directory = train_organism(arguments.out, seed=arguments.seed, resume=arguments.resume)
    write_card(directory, extra={"must_hold": [asdict(bar) for bar in organism_bars(str(directory))]})
    print(arguments.out)
    return 0


def call_sample(arguments: argparse.Namespace) -> int:
    """Prints documents."""
    from emocircuits.organism.corpus import generate

    for document in generate(arguments.kind, arguments.n, seed=arguments.seed, split=arguments.split):
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


def call_evaluate(arguments: argparse.Namespace) -> int:
    """Prints the table of bars; exit code 1 when one is missed."""
    from emocircuits.experiments.organism_bars import organism_bars

    bars = organism_bars(arguments.model)
    if arguments.json:
        print(json.dumps([asdict(bar) for bar in bars]))
    else:
        for bar in bars:
            print(f"{'ok ' if bar.passes else 'NO '} {bar.name:<58} {bar.value:>9.4f}   {bar.bar}")
    return 0 if all(bar.passes for bar in bars) else 1


def call_card(arguments: argparse.Namespace) -> int:
    """Prints the model card."""
    from emocircuits.organism.card import load_card

    card = load_card()
    if arguments.json:
        print(json.dumps(card))
        return 0
    for name, value in card.items():
        print(f"{name:<28} {json.dumps(value) if isinstance(value, dict | list) else value}")
    return 0
