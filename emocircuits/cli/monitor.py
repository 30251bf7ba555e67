"""`emocircuits monitor`: readings while a model writes, as lines of JSON, with actions before a token is
emitted.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from emocircuits.cli.options import add_quiet, add_trust
from emocircuits.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """`emocircuits monitor`."""
    parser = commands.add_parser(
        "monitor",
        help="read emotions while a model writes; log, annotate, steer or stop before a token is emitted",
        epilog='example: echo "Alex decided to" | emocircuits monitor --directions runs/organism --text - '
        "--action steer --steer calm=0.1",
    )
    parser.add_argument(
        "--model", default="organism", metavar="MODEL", help="'organism', a Hugging Face id or a directory"
    )
    parser.add_argument(
        "--directions", required=True, type=Path, metavar="FILE", help="a directions.h5, or a run directory"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", metavar="FILE|-", help="prompts, one a line")
    given.add_argument(
        "--chat", metavar="FILE|-", help='chats, one a line: [{"role": "user", "content": …}, …]'
    )
    parser.add_argument(
        "--emotions", default="desperate", metavar="NAMES", help="comma-separated (default: desperate)"
    )
    parser.add_argument(
        "--neutral",
        type=Path,
        metavar="FILE",
        help="neutral texts, one a line (default: those of the run directory)",
    )
    parser.add_argument(
        "--fpr",
        type=float,
        default=0.01,
        metavar="RATE",
        help="false positives per neutral token (default: 0.01)",
    )
    parser.add_argument(
        "--window", type=int, default=1, metavar="N", help="tokens a reading is averaged over (default: 1)"
    )
    parser.add_argument(
        "--action",
        default="log",
        choices=("log", "annotate", "steer", "stop"),
        help="what to do above the threshold",
    )
    parser.add_argument(
        "--steer", default="", metavar="NAME=X[,…]", help="strengths for the action 'steer', e.g. calm=0.05"
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="I[,…]",
        help="also read these features of the run's SAE at the reading site",
    )
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens to write (default: 64)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="0 takes the most likely token"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, mps")
    add_trust(parser)
    add_quiet(parser)
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Prints one line of JSON per token; a line of the thresholds comes first, a line of the whole text after
    each request.
    """
    from emocircuits.experiments.monitor import Monitor, calibrate, marked_text
    from emocircuits.interventions.dial import as_directions
    from emocircuits.models import load_model

    steering = _strengths(arguments.steer)
    prompts = list(_prompts(arguments))
    directions = as_directions(arguments.directions)
    emotions = tuple(name.strip() for name in arguments.emotions.split(",") if name.strip())
    neutral = _neutral(arguments)
    model = load_model(
        arguments.model, device=arguments.device, trust_remote_code=arguments.trust_remote_code
    )
    found = calibrate(
        model, directions, neutral, emotions, false_positive_rate=arguments.fpr, window=arguments.window
    )
    dictionary, features = _features(arguments, model, directions.read_site)
    watch = Monitor(
        model,
        directions,
        found,
        action=arguments.action,
        steering=steering,
        dictionary=dictionary,
        features=features,
    )
    print(
        json.dumps(
            {
                "thresholds": found.thresholds,
                "false_positive_rate": found.false_positive_rate,
                "neutral_tokens": found.tokens,
                "window": found.window,
                "site": watch.site,
                "action": arguments.action,
            }
        ),
        flush=True,
    )
    for number, given in enumerate(prompts):
        text = given if isinstance(given, str) else model.chat_text(given)
        if text is None:
            raise UserError(
                f"the model {model.name} has no chat template",
                expected="an instruction-tuned model",
                cure="use --text",
            )
        steps = []
        for step in watch.write(
            text, arguments.tokens, temperature=arguments.temperature, seed=arguments.seed + number
        ):
            steps.append(step)
            print(step.line(number), flush=True)
        written = [step for step in steps if step.position >= len(model.encode(text))]
        print(
            json.dumps(
                {
                    "request": number,
                    "text": marked_text(written),
                    "stopped": written[-1].token is None if written else False,
                },
                ensure_ascii=False,
            ),
            flush=True,
        )
    return 0


def _prompts(arguments: argparse.Namespace) -> list[Any]:
    source = arguments.text or arguments.chat
    if source == "-":
        lines = sys.stdin.read().splitlines()
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(
                f"there is no file {path}", expected="one prompt a line, or - for the standard input"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError("there are no prompts", expected="one a line")
    if arguments.text:
        return lines
    chats = []
    for number, line in enumerate(lines, start=1):
        try:
            chats.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"chat {number} is not JSON: {error}", expected='[{"role": "user", "content": …}]'
            ) from error
    return chats


def _neutral(arguments: argparse.Namespace) -> list[str]:
    path = arguments.neutral
    if path is not None:
        if not path.is_file():
            raise UserError(f"there is no file {path}", expected="neutral texts, one a line")
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = (
        arguments.directions if arguments.directions.is_dir() else arguments.directions.parent
    ) / "texts.jsonl"
    if not texts.is_file():
        raise UserError(
            f"there are no neutral texts beside {arguments.directions}",
            cure="give some with --neutral FILE, one a line",
        )
    rows = [json.loads(line) for line in texts.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows if row["kind"] == "neutral"]


def _strengths(text: str) -> dict[str, float]:
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value) if equals else float("x")
        except ValueError:
            raise UserError(f"--steer {part}", expected="NAME=STRENGTH, e.g. calm=0.05") from None
    return found


def _features(arguments: argparse.Namespace, model: Any, site: str) -> tuple[Any, tuple[int, ...]]:
    if not arguments.features:
        return None, ()
    from emocircuits.sae import load_sae
    from emocircuits.sae.dictionary import open_dictionaries

    folder = (
        (arguments.directions if arguments.directions.is_dir() else arguments.directions.parent)
        / "saes"
        / site
    )
    sae = load_sae(folder, site=site, d_in=model.d_model, device=arguments.device)
    try:
        chosen = tuple(int(part) for part in arguments.features.split(","))
    except ValueError:
        raise UserError(f"--features {arguments.features}", expected="numbers with commas between") from None
    return open_dictionaries({site: sae}, model.d_model)[site], chosen
