"""Emotion stories that a model writes itself, in its own register (after Sofroniew et al. 2026, extraction).

An opening states a place and a situation and never the emotion; the model continues it. Its tokens for the
emotion's name and synonyms have probability 0 while it writes, and a text that still spells one of them, or
is too short, is written again and in the end left out; the counts are reported. The texts are frozen in a
JSONL file: the same call reads them back.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emocircuits.activations.asked_stories import AskedMaterial
from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.story_files import read_stories, stories_jsonl
from emocircuits.activations.story_material import Opening, StoryMaterial, story_material
from emocircuits.activations.story_writer import StorySettings, StoryWriter, report_path
from emocircuits.errors import Failure, UserError
from emocircuits.io.atomic import write_text
from emocircuits.provenance import sha256_bytes, sha256_file, sha256_json

__all__ = ["WritingPlan", "StorySettings", "read_report", "read_stories", "report_path", "write_stories"]
SCHEMA = "emocircuits/self-written-stories/2"


@dataclass(frozen=True)
class WritingPlan:
    """Which texts are written.

    Attributes:
        emotions: which emotions; empty for all the material has.
        n_per_emotion: stories planned per emotion (a few may be left out by the filter).
        n_neutral: neutral texts (kind `neutral`, no emotion), spread evenly over the topics.
        held_out_share: share of the situations of each emotion whose stories are the split `held_out`.
        seed: seed of openings and sampling.
    """

    emotions: tuple[str, ...]
    n_per_emotion: int
    n_neutral: int = 0
    held_out_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out_share < 1:
            raise UserError(f"held_out_share {self.held_out_share}", expected="a share between 0 and 1")
        if self.n_per_emotion < 1 or self.n_neutral < 0:
            raise UserError(
                f"{self.n_per_emotion} stories per emotion and {self.n_neutral} neutral texts",
                expected="at least 1 story",
            )

    def openings(self, material: StoryMaterial | AskedMaterial) -> list[Opening]:
        """What each text begins with.

        Raises:
            UserError: an emotion that the material does not have.
        """
        counts = [*((emotion, self.n_per_emotion) for emotion in material.check(self.emotions))]
        return [
            opening
            for emotion, count in (*counts, ("", self.n_neutral))
            for opening in material.plan(emotion, count, self.seed, self.held_out_share)
        ]


def write_stories(
    model: Any,
    plan: WritingPlan,
    out_path: str | Path,
    *,
    settings: StorySettings | None = None,
    material: StoryMaterial | AskedMaterial | None = None,
) -> list[LabelledText]:
    """Lets the model write stories, or reads them back where the same call has written them before.

    Next to `out_path` (JSONL, readable with `read_stories`) lies `<out_path>.report.json` with the counts and
    all that was ever written. A killed call resumes after the last finished batch and ends with the same
    texts; a call that asks for more stories, or for others, writes those alone that are not there yet.

    Args:
        model: a `LanguageModel`.
        plan: which texts.
        out_path: the JSONL file.
        settings: how they are written.
        material: what they are opened with or asked for; None for the openings of children's stories.

    Returns:
        Stories and neutral texts, in the order of the plan; splits `train` and `held_out` never share a
        situation.

    Raises:
        UserError: an unknown emotion, or a file at `out_path` that is not this call's.
        Failure: every attempt at every story of some emotion was thrown away.
    """
    settings, material, out_path = settings or StorySettings(), material or story_material(), Path(out_path)
    emotions, openings = material.check(plan.emotions), plan.openings(material)
    ground = sha256_json([model.content_hash, plan.seed, asdict(settings), dict(material.forbidden)])
    asked_for = [
        [asdict(opening.label), opening.request] if opening.request else asdict(opening.label)
        for opening in openings
    ]
    identity = sha256_json([ground, asked_for])
    if out_path.exists() and _is_this(out_path, identity, ground):
        return read_stories(out_path)
    writer = StoryWriter(model, material, settings, plan.seed, openings, ground, out_path)
    writer.write()
    texts = [writer.finished[opening.label.id] for opening in openings if opening.label.id in writer.finished]
    kept = Counter(text.emotion for text in texts)
    empty = [emotion for emotion in emotions if not kept[emotion]]
    if empty:
        raise Failure(
            f"the model wrote no usable story of '{empty[0]}' in {settings.attempts} attempts "
            f"at each of {plan.n_per_emotion}",
            cure="leave this emotion out, or bring stories of your own as JSONL",
        )
    contents = stories_jsonl(texts)
    report = {
        "schema": SCHEMA,
        "plan": identity,
        "ground": ground,
        "sha256": sha256_bytes(contents.encode("utf-8")),
        "seed": plan.seed,
        "model_hash": model.content_hash,
        "settings": asdict(settings),
        "planned": len(openings),
        "kept": len(texts),
        "kept_per_emotion": dict(kept),
        "thrown_away": dict(writer.thrown_away),
        "by_emotion": writer.table(),
        "stories": writer.written(),
    }
    write_text(report_path(out_path), json.dumps(report, indent=2, sort_keys=True) + "\n")
    write_text(out_path, contents)  # last: where the texts are, their report is
    writer.part.unlink(missing_ok=True)
    return texts


def read_report(out_path: str | Path) -> dict[str, Any]:
    """The report next to a story file: plan, counts kept and thrown away (by reason), settings.

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


def _is_this(out_path: Path, identity: str, ground: str) -> bool:
    """Whether a file is the whole answer to this call; False where it may be added to.

    Raises:
        UserError: it is neither.
    """
    report = read_report(out_path)
    if report["ground"] != ground:
        raise UserError(
            f"{out_path} holds stories of another model, seed or settings",
            cure="delete it or choose another directory",
        )
    if report["sha256"] != sha256_file(out_path):
        raise UserError(
            f"{out_path} was changed after it was written",
            cure="delete it and run again, or use it as JSONL material",
        )
    return report["plan"] == identity
