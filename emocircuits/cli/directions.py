"""`emocircuits directions validate|read|scan|speakers|preference RUN`."""

import argparse
import json

from emocircuits.cli.output import one_line, print_rows
from emocircuits.cli.verb import (
    JSON,
    LOADING,
    NAMES,
    NUMBER,
    PATH,
    QUIET,
    RUN,
    WHOLE,
    Noun,
    Verb,
    loading,
    option,
)

SHOWN = (
    "estimator",
    "site",
    "auroc",
    "auroc_low",
    "auroc_high",
    "linear_auroc",
    "bayes_auroc",
    "accuracy",
    "reliability",
    "valence_r",
    "arousal_r",
    "topic_cramers_v",
)
SITE = option("--site", "where to read (default: the reading site)", value="SITE")


def validate(arguments: argparse.Namespace) -> int:
    """Prints one row per estimator and site."""
    from emocircuits.studies.direction_studies import validate_directions

    names = list(arguments.estimators) or None
    return print_rows(validate_directions(arguments.run, names), arguments.json, SHOWN)


def read(arguments: argparse.Namespace) -> int:
    """Prints the readings of a text: emotions over the whole, then token by token."""
    from emocircuits.studies.direction_studies import read_text

    readings = read_text(
        arguments.run,
        arguments.text,
        list(arguments.emotions) or None,
        site=arguments.site,
        loading=loading(arguments),
    )
    if arguments.json:
        print(json.dumps(readings, ensure_ascii=False))
        return 0
    print(f"mean reading at {readings['site']}, in units of the mean residual norm; 0 is the average story")
    for emotion, value in readings["mean"].items():
        print(f"  {value:+.3f}  {emotion}")
    return print_rows([{**row, "token": one_line(row["token"])} for row in readings["tokens"]], False)


def scan(arguments: argparse.Namespace) -> int:
    """Prints the best passages of every emotion."""
    from emocircuits.studies.direction_studies import scan_texts

    scanned = scan_texts(
        arguments.run,
        arguments.text,
        emotions=list(arguments.emotions) or None,
        top=arguments.top,
        site=arguments.site,
        loading=loading(arguments),
    )
    if arguments.json:
        print(
            json.dumps(
                {
                    "n_passages": scanned.n_passages,
                    "n_tokens": scanned.n_tokens,
                    "passages": scanned.passages.to_dict("records"),
                    "summary": scanned.summary.to_dict("records"),
                },
                ensure_ascii=False,
            )
        )
        return 0
    print(
        f"{scanned.n_passages:,} passages, {scanned.n_tokens:,} tokens; reading (z over "
        "all passages), line, passage"
    )
    for emotion, rows in scanned.passages.groupby("emotion", sort=False):
        print(emotion)
        for row in rows.itertuples():
            print(f"  {row.reading:+.3f} ({row.z:+.1f})  line {row.line}: {one_line(row.text)}")
    return 0


def speakers(arguments: argparse.Namespace) -> int:
    """Prints how well each role's directions read each label, and how alike the roles are."""
    from emocircuits.studies.direction_studies import study_speakers

    readings, similarity = study_speakers(
        arguments.run,
        arguments.dialogues,
        per_emotion=arguments.per_emotion,
        loading=loading(arguments),
    )
    if arguments.json:
        print(json.dumps({"readings": readings, "similarity": similarity}))
        return 0
    print_rows(readings, False)
    print()
    return print_rows(similarity, False)


def preference(arguments: argparse.Namespace) -> int:
    """Prints which emotions go with being liked, what pushing along them does, and whether the two agree."""
    from emocircuits.studies.direction_studies import study_preferences

    study = study_preferences(
        arguments.run,
        loading=loading(arguments),
        material=arguments.material,
        emotions=arguments.emotions,
        strength=arguments.strength,
        steer_pairs=arguments.steer_pairs,
    )
    if arguments.json:
        print(json.dumps(study, ensure_ascii=False))
        return 0
    print(f"{study['n_pairs']:,} ordered pairs; read and steered at {study['site']}")
    print_rows(study["sites"], False)
    print()
    rows = [row for row in study["emotions"] if row["delta_elo"] is not None]
    print_rows(
        sorted(rows, key=lambda row: -row["delta_elo"]),
        False,
        ("direction", "kind", "r", "delta_elo", "delta_low", "delta_high"),
    )
    agreement = study["agreement"]
    print(
        f"\nreading against effect over {agreement['n_emotions']} emotions: r = {agreement['r']:.2f} "
        f"[{agreement['ci_low']:.2f}, {agreement['ci_high']:.2f}]"
    )
    return 0


NOUN = Noun(
    "directions",
    "emotion directions",
    (
        Verb(
            "directions validate",
            "how well directions read emotions, and how reliable they are",
            validate,
            (
                RUN,
                option(
                    "--estimators",
                    "learn again with each of these, or 'all' (default: as in the run)",
                    NAMES,
                    (),
                ),
                JSON,
                QUIET,
            ),
            ("emocircuits directions validate runs/organism --estimators all",),
        ),
        Verb(
            "directions read",
            "readings of every token of a text",
            read,
            (
                RUN,
                option("--text", "the text", required=True),
                option("--emotions", "default: the recipe's and the highest", NAMES, ()),
                SITE,
                *LOADING,
                JSON,
                QUIET,
            ),
            ('emocircuits directions read runs/organism --text "Nothing was left to try."',),
        ),
        Verb(
            "directions scan",
            "passages of a text file where each emotion reads highest",
            scan,
            (
                RUN,
                option("--text", "a plain text file; blank lines part its texts", PATH, required=True),
                option("--emotions", "default: all", NAMES, ()),
                option("--top", "passages per emotion", WHOLE, 3),
                SITE,
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits directions scan runs/organism --text book.txt --emotions calm --top 5",),
        ),
        Verb(
            "directions speakers",
            "directions of the present speaker, the other one, and of masked emotions",
            speakers,
            (
                RUN,
                option("--dialogues", "labelled dialogues as JSONL (default: the organism's own)", PATH),
                option("--per-emotion", "of the organism's own, dialogues per emotion", WHOLE, 14),
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits directions speakers runs/organism --dialogues dialogues.jsonl",),
        ),
        Verb(
            "directions preference",
            "Elo of activities, readings against steering effects",
            preference,
            (
                RUN,
                option(
                    "--material",
                    "TOML of activities and questions (default: the organism's 64)",
                    value="FILE",
                ),
                option("--emotions", "emotions to steer (default: 35)", WHOLE),
                option("--strength", "fraction of the mean residual norm (default: 0.5)", NUMBER),
                option("--steer-pairs", "pairs asked per direction, 0 for all (default: 192)", WHOLE),
                *LOADING,
                JSON,
                QUIET,
            ),
            ("emocircuits directions preference runs/organism --emotions 171 --strength 0.25",),
        ),
    ),
)
