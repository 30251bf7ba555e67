"""`emocircuits directions validate|read|scan|speakers|preference RUN`."""

import argparse
import json
from typing import Any

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
    switch,
)
from emocircuits.errors import UserError

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
SCORES = (
    "estimator",
    "site",
    "directions",
    "components",
    "texts",
    "n",
    "auroc",
    "auroc_low",
    "auroc_high",
    "shuffled_p95",
    "shuffled_max",
    "random_p95",
    "matched_p95",
    "p_value",
)
LISTED = 8  # reasons why texts were left out
SITE = option("--site", "where to read (default: the reading site)", value="SITE")


def validate(arguments: argparse.Namespace) -> int:
    """Prints one row per estimator and site; next to published norms and texts of people where asked."""
    from emocircuits.studies.direction_human import directions_against_norms, directions_on_human_text
    from emocircuits.studies.direction_studies import validate_directions

    names, asked = list(arguments.estimators) or None, arguments.human is not None
    for value, name in ((arguments.site, "--site"), (arguments.least, "--least"), (arguments.skip, "--skip")):
        if value is not None and not asked:
            raise UserError(f"{name} is given", cure="it goes with texts of people: --human FILE")
    rows = validate_directions(arguments.run, names)
    if not asked and not arguments.norms:
        return print_rows(rows, arguments.json, SHOWN)
    found: dict[str, Any] = {"sites": rows}
    if asked:
        given = {"least": arguments.least, "from_token": arguments.skip}
        found |= directions_on_human_text(
            arguments.run,
            arguments.human,
            names,
            site=arguments.site,
            loading=loading(arguments),
            **{key: value for key, value in given.items() if value is not None},
        )
    else:
        found["norms"] = directions_against_norms(arguments.run, names)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print_rows(rows, False, SHOWN)
    if asked:
        _print_human(found)
    print(
        "\nagainst published valence and arousal: |r| of the best of three components, r of predictions by "
        "a ridge on the other emotions; p by permutation"
    )
    return print_rows(found["norms"], False)


def _print_human(found: dict[str, Any]) -> None:
    source = found["source"]
    reasons = [f"{why} ({n:,})" for why, n in source["left_out"].items()]
    more = f" and {len(reasons) - LISTED} further reasons" if len(reasons) > LISTED else ""
    print(
        f"\n{source['file']}: {source['scored']:,} of {source['texts']:,} texts, each emotion's against the "
        f"other emotions'; left out: {', '.join(reasons[:LISTED])}{more}"
    )
    print(
        "mean AUROC over emotions; by chance: labels shuffled, random directions, random ones with the "
        "covariance of the texts (matched)"
    )
    print_rows(found["scores"], False, SCORES)
    for row in found["scores"]:
        if row.get("gain") is not None:
            print(
                f"{row['estimator']} at {row['site']}: {row['components']} neutral components out were best "
                f"on one half of the texts; on the other, {row['gain']:+.3f} [{row['gain_low']:+.3f}, "
                f"{row['gain_high']:+.3f}] over the directions as they are"
            )
    print(
        "\nper emotion, as they are on all texts; cleaned: so on the half that the number was not chosen on"
    )
    print_rows(found["emotions"], False)


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
                switch("--norms", "next to published valence and arousal of the emotions"),
                option(
                    "--human",
                    "texts that people labelled: a .tsv file in the form of GoEmotions, or .jsonl with "
                    "text and emotion; written to human_text.json of the run",
                    PATH,
                ),
                option("--site", "where these texts are read, or 'all' (default: the reading site)"),
                option("--skip", "leading tokens of these texts that do not count (default: 1)", WHOLE),
                option("--least", "fewest of these texts of an emotion (default: 20)", WHOLE),
                *LOADING,
                JSON,
                QUIET,
            ),
            (
                "emocircuits directions validate runs/organism --estimators all",
                "emocircuits directions validate runs/smollm2 --human goemotions/test.tsv",
            ),
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
