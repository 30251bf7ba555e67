"""Emotion stories that a model writes itself, in its own register (after Sofroniew et al. 2026, extraction).

An opening states a place and a situation and never the emotion; the model goes on. Its tokens for the
emotion's name and synonyms have probability 0 while it writes, and a text that still spells one of them, or
is too short, is written anew and in the end left out; the counts are reported. The texts are frozen in a
JSONL file: the same call reads them back.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emocircuits.collect.asked_stories import AskedMaterial
from emocircuits.collect.prompts import LabelledText
from emocircuits.collect.story_desk import Desk, StorySettings
from emocircuits.collect.story_files import read_stories, stories_jsonl
from emocircuits.collect.story_material import StoryMaterial, story_material
from emocircuits.errors import Failure, UserError
from emocircuits.io.atomic import write_text
from emocircuits.provenance import sha256_bytes, sha256_file, sha256_json

__all__ = ["StorySettings", "read_report", "read_stories", "report_path", "write_stories"]
SCHEMA = "emocircuits/self-written-stories/1"


def write_stories(
    model: Any,
    emotions: Sequence[str],
    n_per_emotion: int,
    seed: int,
    out_path: str | Path,
    *,
    n_neutral: int = 0,
    held_out_share: float = 0.25,
    settings: StorySettings | None = None,
    material: StoryMaterial | AskedMaterial | None = None,
) -> list[LabelledText]:
    """Lets the model write stories, or reads them back where the same call has written them before.

    Beside `out_path` (JSONL, readable with `read_stories`) lies `<out_path>.report.json` with the counts. A
    killed call goes on after the last finished batch and ends with the same texts.

    Args:
        model: a `LanguageModel`.
        emotions: which emotions; empty for all the material has.
        n_per_emotion: stories planned per emotion (a few may be left out by the filter).
        seed: seed of openings and sampling.
        out_path: the JSONL file.
        n_neutral: neutral texts (kind `neutral`, no emotion), spread evenly over the topics.
        held_out_share: share of the situations of each emotion whose stories are the split `held_out`.
        settings: how they are written.
        material: what they are opened with or asked for; None for the openings of children's stories.

    Returns:
        Stories and neutral texts, in the order of the plan; splits `train` and `held_out` never share a
        situation.

    Raises:
        UserError: an unknown emotion, no stories asked for, or a file at `out_path` that is not this call's.
        Failure: every attempt at every story of some emotion was thrown away.
    """
    settings, material, out_path = settings or StorySettings(), material or story_material(), Path(out_path)
    emotions = material.check(emotions)
    if not 0 < held_out_share < 1:
        raise UserError(f"held_out_share {held_out_share}", expected="a share between 0 and 1")
    if n_per_emotion < 1 or n_neutral < 0:
        raise UserError(
            f"{n_per_emotion} stories per emotion and {n_neutral} neutral texts", expected="at least 1 story"
        )
    openings = [
        opening
        for emotion in emotions
        for opening in material.plan(emotion, n_per_emotion, seed, held_out_share)
    ]
    openings += material.plan("", n_neutral, seed, held_out_share)
    plan = sha256_json(
        [
            model.content_hash,
            seed,
            asdict(settings),
            [
                [asdict(opening.label), opening.request] if opening.request else asdict(opening.label)
                for opening in openings
            ],
            {emotion: material.forbidden[emotion] for emotion in (*emotions, "")},
        ]
    )
    if out_path.exists():
        return _written_before(out_path, plan)
    desk = Desk(model, material, settings, seed, openings, plan, out_path)
    desk.write()
    texts = [desk.finished[opening.label.id] for opening in openings if opening.label.id in desk.finished]
    kept = Counter(text.emotion for text in texts)
    empty = [emotion for emotion in emotions if not kept[emotion]]
    if empty:
        raise Failure(
            f"the model wrote no usable story of '{empty[0]}' in {settings.attempts} attempts "
            f"at each of {n_per_emotion}",
            cure="leave this emotion out, or bring stories of your own as JSONL",
        )
    contents = stories_jsonl(texts)
    report = {
        "schema": SCHEMA,
        "plan": plan,
        "sha256": sha256_bytes(contents.encode("utf-8")),
        "seed": seed,
        "model_hash": model.content_hash,
        "settings": asdict(settings),
        "planned": len(openings),
        "kept": len(texts),
        "kept_per_emotion": dict(kept),
        "thrown_away": dict(desk.thrown_away),
    }
    write_text(report_path(out_path), json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_text(out_path, contents)  # last: where the texts are, their report is
    desk.part.unlink(missing_ok=True)
    return texts


def report_path(out_path: str | Path) -> Path:
    """Where the report of a story file lies."""
    return Path(f"{out_path}.report.json")


def read_report(out_path: str | Path) -> dict[str, Any]:
    """The report beside a story file: plan, counts kept and thrown away (by reason), settings.

    Raises:
        UserError: there is none, or it is no report.
    """
    path = report_path(out_path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable report of self-written stories",
            cure=f"delete {out_path} and run again",
        ) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise UserError(
            f"{path} is not a report of self-written stories", cure=f"delete {out_path} and run again"
        )
    return report


def _written_before(out_path: Path, plan: str) -> list[LabelledText]:
    report = read_report(out_path)
    if report["plan"] != plan:
        raise UserError(
            f"{out_path} holds stories of another model, seed or settings",
            cure="delete it or choose another directory",
        )
    if report["sha256"] != sha256_file(out_path):
        raise UserError(
            f"{out_path} was changed after it was written",
            cure="delete it and run again, or use it as JSONL material",
        )
    return read_stories(out_path)
