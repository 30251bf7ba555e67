"""`emocircuits monitor RUN`: readings while a model writes, as lines of JSON, with actions before a token is
emitted.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from emocircuits.cli.steer import MODEL, RUN, SEED
from emocircuits.cli.verb import LOADING, NAMES, NUMBER, PATH, QUIET, WHOLE, WHOLES, Verb, loading, option
from emocircuits.errors import UserError
from emocircuits.io.lines import lines_of


def monitor(arguments: argparse.Namespace) -> int:
    """Prints one line of JSON per token; a line of the thresholds comes first, a line of the whole text after
    each request.
    """
    from emocircuits.artifacts.store.activation_store import ActivationStore
    from emocircuits.experiments.calibration import calibrate, calibrate_on_store
    from emocircuits.experiments.monitor import Monitor, marked_text
    from emocircuits.studies.steer_studies import open_pair

    steering = _strengths(arguments.steer)
    prompts = list(_prompts(arguments))
    neutral = _neutral(arguments)
    model, directions = open_pair(
        arguments.run,
        arguments.model,
        loading=loading(arguments),
    )
    how = {"false_positive_rate": arguments.fpr, "window": arguments.window}
    if isinstance(neutral, Path):  # the run has read its neutral texts already
        store = ActivationStore.open(neutral)
        calibration = calibrate_on_store(store, directions, arguments.emotions, **how)
    else:
        calibration = calibrate(model, directions, neutral, arguments.emotions, **how)
    dictionary, features = _features(arguments, model, directions.read_site)
    watch = Monitor(
        model,
        directions,
        calibration,
        action=arguments.action,
        steering=steering,
        dictionary=dictionary,
        features=features,
    )
    print(
        json.dumps(
            {
                "thresholds": calibration.thresholds,
                "false_positive_rate": calibration.false_positive_rate,
                "neutral_tokens": calibration.tokens,
                "window": calibration.window,
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
    if (arguments.text is None) == (arguments.chat is None):
        raise UserError("the prompts of emocircuits monitor", expected="either --text or --chat")
    source = arguments.text or arguments.chat
    if source == "-":
        lines = lines_of(sys.stdin.read())
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(
                f"there is no file {path}", expected="one prompt a line, or - for the standard input"
            )
        lines = lines_of(path.read_text(encoding="utf-8"))
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


def _neutral(arguments: argparse.Namespace) -> list[str] | Path:
    """Neutral texts, or the store in which the run keeps the activations of its own."""
    path = arguments.neutral
    if path is not None:
        if not path.is_file():
            raise UserError(f"there is no file {path}", expected="neutral texts, one a line")
        return [line for line in lines_of(path.read_text(encoding="utf-8")) if line.strip()]
    if arguments.model is None and (_folder(arguments) / "activations.h5").is_file():
        return _folder(arguments) / "activations.h5"
    texts = _folder(arguments) / "texts.jsonl"
    if not texts.is_file():
        raise UserError(
            f"there are no neutral texts next to {arguments.run}",
            cure="give some with --neutral FILE, one a line",
        )
    rows = [json.loads(line) for line in lines_of(texts.read_text(encoding="utf-8"))]
    return [row["text"] for row in rows if row["kind"] == "neutral"]


def _strengths(text: str) -> dict[str, float]:
    strengths = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        try:
            strengths[name.strip()] = float(value) if equals else float("x")
        except ValueError:
            raise UserError(f"--steer {part}", expected="NAME=STRENGTH, e.g. calm=0.05") from None
    return strengths


def _features(arguments: argparse.Namespace, model: Any, site: str) -> tuple[Any, tuple[int, ...]]:
    if not arguments.features:
        return None, ()
    from emocircuits.sae import load_sae
    from emocircuits.sae.dictionary import open_dictionaries

    sae = load_sae(
        _folder(arguments) / "saes" / site, site=site, d_in=model.d_model, device=arguments.device or "cpu"
    )
    return open_dictionaries({site: sae}, model.d_model)[site], arguments.features


def _folder(arguments: argparse.Namespace) -> Path:
    return arguments.run if arguments.run.is_dir() else arguments.run.parent


MONITOR = Verb(
    "monitor",
    "read emotions while a model writes; log, steer or stop",
    monitor,
    (
        RUN,
        option("--text", "prompts, one a line; - is the standard input", value="FILE|-"),
        option("--chat", 'chats, one a line: [{"role": "user", "content": …}, …]', value="FILE|-"),
        option("--emotions", "which readings", NAMES, ("desperate",)),
        option("--neutral", "neutral texts, one a line (default: those of the run)", PATH),
        option("--fpr", "false positives per neutral token", NUMBER, 0.01),
        option("--window", "tokens a reading is averaged over", WHOLE, 1),
        option(
            "--action",
            "what to do above the threshold, before the token is emitted",
            default="log",
            choices=("log", "annotate", "steer", "stop"),
        ),
        option(
            "--steer",
            "strengths of the action 'steer', e.g. calm=0.05",
            value="NAME=X,…",
            default="",
        ),
        option("--features", "also read these features of the run's SAE at the reading site", WHOLES, ()),
        option("--tokens", "tokens to write", WHOLE, 64),
        option("--temperature", "0 takes the most likely token", NUMBER, 1.0),
        MODEL,
        SEED,
        *LOADING,
        QUIET,
    ),
    (
        "emocircuits monitor runs/organism --text prompts.txt",
        "emocircuits monitor runs/organism --text - --action steer --steer calm=0.1",
    ),
)
