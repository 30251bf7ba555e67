"""`emocircuits directions RUN`, the stage, and `emocircuits directions
validate|read|scan|speakers|preference`.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from emocircuits.cli.options import add_json, add_quiet, add_trust
from emocircuits.cli.tables import print_rows

DEFAULT_RUN = Path("runs/organism")
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


def add_verbs(commands: argparse._SubParsersAction) -> None:
    """`emocircuits directions-validate` and so on, which `emocircuits directions validate …` is
    rewritten to.
    """
    validate = _verb(
        commands,
        "validate",
        call_validate,
        "how well directions read emotions, and how reliable they are",
        "emocircuits directions validate runs/organism --estimators difference_of_means,linear_discriminant",
    )
    validate.add_argument(
        "--estimators",
        metavar="NAMES",
        help="learn anew with each of these, comma-separated, or 'all' (default: as in the run)",
    )
    read = _verb(
        commands,
        "read",
        call_read,
        "readings of every token of a text",
        'emocircuits directions read runs/organism --text "Nothing was left to try."',
    )
    read.add_argument("--text", required=True, metavar="TEXT", help="the text")
    scan = _verb(
        commands,
        "scan",
        call_scan,
        "passages of a text file where each emotion reads highest",
        "emocircuits directions scan --text book.txt --emotions desperate,calm --top 5",
    )
    scan.add_argument(
        "--text",
        required=True,
        type=Path,
        metavar="FILE",
        help="a plain text file; blank lines part its texts",
    )
    scan.add_argument("--top", type=int, default=3, metavar="N", help="passages per emotion (default: 3)")
    for parser in (read, scan):
        parser.add_argument(
            "--emotions",
            metavar="NAMES",
            help="comma-separated (default: all for scan; the recipe's and the highest for read)",
        )
        parser.add_argument("--site", metavar="SITE", help="where to read (default: the reading site)")
    speakers = _verb(
        commands,
        "speakers",
        call_speakers,
        "directions of the present speaker, the other one, and of masked emotions",
        "emocircuits directions speakers runs/organism --dialogues dialogues.jsonl",
    )
    speakers.add_argument(
        "--dialogues",
        type=Path,
        metavar="FILE",
        help="labelled dialogues as JSONL (default: the organism's own)",
    )
    speakers.add_argument(
        "--per-emotion",
        type=int,
        default=14,
        metavar="N",
        help="of the organism's own, dialogues per emotion (default: 14)",
    )
    preference = _verb(
        commands,
        "preference",
        call_preference,
        "Elo of activities, readings against steering effects",
        "emocircuits directions preference runs/organism --emotions 171 --strength 0.25",
    )
    preference.add_argument(
        "--material", metavar="FILE", help="TOML of activities and questions (default: the organism's 64)"
    )
    preference.add_argument("--emotions", type=int, metavar="N", help="emotions to steer (default: 35)")
    preference.add_argument(
        "--strength", type=float, metavar="X", help="fraction of the mean residual norm (default: 0.5)"
    )
    preference.add_argument(
        "--steer-pairs",
        type=int,
        metavar="N",
        help="ordered pairs asked per direction, 0 for all (default: 192)",
    )


def _verb(
    commands: argparse._SubParsersAction,
    name: str,
    call: Callable[[argparse.Namespace], int],
    does: str,
    example: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        f"directions-{name}", help=f"{does} (also: directions {name})", epilog=f"example: {example}"
    )
    parser.add_argument(
        "directory",
        metavar="RUN",
        type=Path,
        nargs="?",
        default=DEFAULT_RUN,
        help=f"a run directory (default: {DEFAULT_RUN})",
    )
    add_json(parser)
    add_quiet(parser)
    if name != "validate":
        add_trust(parser)
    parser.set_defaults(call=call)
    return parser


def call_validate(arguments: argparse.Namespace) -> int:
    """Prints one row per estimator and site."""
    from emocircuits.studies.direction_studies import validate_directions

    return print_rows(
        validate_directions(arguments.directory, _names(arguments.estimators)), arguments.json, SHOWN
    )


def call_read(arguments: argparse.Namespace) -> int:
    """Prints the readings of a text: emotions over the whole, then token by token."""
    from emocircuits.studies.direction_studies import read_text

    found = read_text(
        arguments.directory,
        arguments.text,
        _names(arguments.emotions),
        site=arguments.site,
        trust_remote_code=arguments.trust_remote_code,
    )
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(f"mean reading at {found['site']}, in units of the mean residual norm; 0 is the average story")
    for emotion, value in found["mean"].items():
        print(f"  {value:+.3f}  {emotion}")
    return print_rows([{**row, "token": _plain(row["token"])} for row in found["tokens"]], False)


def call_scan(arguments: argparse.Namespace) -> int:
    """Prints the best passages of every emotion."""
    from emocircuits.studies.direction_studies import scan_texts

    found = scan_texts(
        arguments.directory,
        arguments.text,
        emotions=_names(arguments.emotions),
        top=arguments.top,
        site=arguments.site,
        trust_remote_code=arguments.trust_remote_code,
    )
    if arguments.json:
        print(
            json.dumps(
                {
                    "n_passages": found.n_passages,
                    "n_tokens": found.n_tokens,
                    "passages": found.passages.to_dict("records"),
                    "summary": found.summary.to_dict("records"),
                },
                ensure_ascii=False,
            )
        )
        return 0
    print(
        f"{found.n_passages:,} passages, {found.n_tokens:,} tokens; reading (z over "
        "all passages), line, passage"
    )
    for emotion, rows in found.passages.groupby("emotion", sort=False):
        print(emotion)
        for row in rows.itertuples():
            print(f"  {row.reading:+.3f} ({row.z:+.1f})  line {row.line}: {_plain(row.text)}")
    return 0


def call_speakers(arguments: argparse.Namespace) -> int:
    """Prints how well each role's directions read each label, and how alike the roles are."""
    from emocircuits.studies.direction_studies import study_speakers

    readings, similarity = study_speakers(
        arguments.directory,
        arguments.dialogues,
        per_emotion=arguments.per_emotion,
        trust_remote_code=arguments.trust_remote_code,
    )
    if arguments.json:
        print(json.dumps({"readings": readings, "similarity": similarity}))
        return 0
    print_rows(readings, False)
    print()
    return print_rows(similarity, False)


def call_preference(arguments: argparse.Namespace) -> int:
    """Prints which emotions go with being liked, what pushing along them does, and whether the two agree."""
    from emocircuits.studies.direction_studies import study_preferences

    found = study_preferences(
        arguments.directory,
        trust_remote_code=arguments.trust_remote_code,
        material=arguments.material,
        emotions=arguments.emotions,
        strength=arguments.strength,
        steer_pairs=arguments.steer_pairs,
    )
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(f"{found['n_pairs']:,} ordered pairs; read and steered at {found['site']}")
    print_rows(found["sites"], False)
    print()
    rows = [row for row in found["emotions"] if row["delta_elo"] is not None]
    print_rows(
        sorted(rows, key=lambda row: -row["delta_elo"]),
        False,
        ("direction", "kind", "r", "delta_elo", "delta_low", "delta_high"),
    )
    agreement = found["agreement"]
    print(
        f"\nreading against effect over {agreement['n_emotions']} emotions: r = {agreement['r']:.2f} "
        f"[{agreement['ci_low']:.2f}, {agreement['ci_high']:.2f}]"
    )
    return 0


def rewrite(arguments: list[str]) -> list[str]:
    """`directions read …` becomes `directions-read …`; `directions RUN` stays the stage."""
    verbs = ("validate", "read", "scan", "speakers", "preference")
    if len(arguments) > 1 and arguments[0] == "directions" and arguments[1] in verbs:
        return [f"directions-{arguments[1]}", *arguments[2:]]
    return arguments


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _plain(text: str) -> str:
    """Text for a terminal: no control characters, white space as single spaces."""
    return (
        " ".join("".join(character if character.isprintable() else " " for character in text).split()) or "␣"
    )
