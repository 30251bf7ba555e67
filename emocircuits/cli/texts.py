"""`emocircuits texts SOURCE`: what a material is worth, before any model reads it."""

import argparse
import json
from dataclasses import asdict

from emocircuits.cli.output import print_rows
from emocircuits.cli.verb import JSON, NAMES, TEXT, WHOLE, Verb, given, option


def texts(arguments: argparse.Namespace) -> int:
    """Prints one row per emotion and what is wrong with the texts; exit code 1 where anything is."""
    from emocircuits.activations.settings import CollectSettings
    from emocircuits.activations.texts import load_texts
    from emocircuits.studies.text_quality import text_quality

    settings = CollectSettings(
        emotions=arguments.emotions, stories_per_emotion=arguments.stories, further_texts=0
    )
    found = text_quality(load_texts(arguments.source, settings, seed=arguments.seed), arguments.seed)
    if arguments.json:
        print(json.dumps(asdict(found) | {"problems": found.problems}, ensure_ascii=False))
    else:
        print_rows(found.rows, False)
        for what, (share, low, high) in (
            ("words of topics alone", found.topic_accuracy),
            ("all words", found.word_accuracy),
        ):
            print(
                f"{what} name the emotion in {share:.1%} of the stories [{low:.1%}, {high:.1%}]; "
                f"chance is {found.chance:.1%}"
            )
        print("\n".join(found.problems) or "nothing is wrong")
    return 1 if found.problems else 0


TEXTS = Verb(
    "texts",
    "what labelled texts are worth: names given away, length, repetitions, topics",
    texts,
    (
        given("SOURCE", "organism, written, planted, or the path of a JSONL file", TEXT),
        option("--emotions", "which emotions (default: all of the material)", NAMES, default=()),
        option("--stories", "stories of an emotion to learn from", WHOLE, 40),
        option("--seed", "seed of texts and folds", WHOLE, 0),
        JSON,
    ),
    ("emocircuits texts written", "emocircuits texts stories.jsonl --json"),
    "Exit code 1 where something is wrong.",
)
