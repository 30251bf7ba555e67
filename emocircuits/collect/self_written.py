"""Emotion stories that a model writes itself, in its own register (after Sofroniew et al. 2026, extraction).

An opening states a place and a situation and never the emotion; the model goes on. Its tokens for the emotion's name and
synonyms have probability 0 while it writes, and a text that still spells one of them, or is too short, is written anew
and in the end left out; the counts are reported. The texts are frozen in a JSONL file: the same call reads them back.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emocircuits.collect.prompts import LabelledText
from emocircuits.collect.sampling import sample_continuations
from emocircuits.collect.story_files import read_stories, save_stories
from emocircuits.collect.story_material import Opening, StoryMaterial, plan_openings, story_material
from emocircuits.errors import Failure, UserError
from emocircuits.io.atomic import write_text
from emocircuits.numerics import generator
from emocircuits.progress import bar
from emocircuits.provenance import sha256_file, sha256_json

SCHEMA = "emocircuits/self-written-stories/1"


@dataclass(frozen=True)
class StorySettings:
    """How stories are written.

    Attributes:
        new_tokens: tokens sampled after the opening, at most.
        min_new_tokens: a shorter continuation is written anew.
        temperature: of the sampling.
        attempts: how often a story is tried before it is left out.
        batch_size: stories written together.
    """

    new_tokens: int = 80
    min_new_tokens: int = 16
    temperature: float = 0.9
    attempts: int = 4
    batch_size: int = 64


def write_stories(
    model: Any,
    emotions: Sequence[str],
    n_per_emotion: int,
    seed: int,
    out_path: str | Path,
    *,
    n_neutral: int = 0,
    settings: StorySettings | None = None,
) -> list[LabelledText]:
    """Lets the model write stories, or reads them back where the same call has written them before.

    Beside `out_path` (JSONL, readable with `read_stories`) lies `<out_path>.report.json` with the counts. A killed call
    goes on after the last finished batch and ends with the same texts.

    Args:
        model: a `LanguageModel`.
        emotions: which emotions; empty for all the material has.
        n_per_emotion: stories planned per emotion (a few may be left out by the filter).
        seed: seed of openings and sampling.
        out_path: the JSONL file.
        n_neutral: neutral texts (kind `neutral`, no emotion), spread evenly over the topics.
        settings: how they are written.

    Returns:
        Stories and neutral texts, in the order of the plan; splits `train` and `held_out` never share a situation.

    Raises:
        UserError: an unknown emotion, no stories asked for, or a file at `out_path` that is not this call's.
        Failure: every attempt at every story of some emotion was thrown away.
    """
    settings, material, out_path = settings or StorySettings(), story_material(), Path(out_path)
    emotions = material.check(emotions)
    if n_per_emotion < 1 or n_neutral < 0:
        raise UserError(f"{n_per_emotion} stories per emotion and {n_neutral} neutral texts", expected="at least 1 story")
    openings = [opening for emotion in emotions for opening in plan_openings(material, emotion, n_per_emotion, seed)]
    openings += plan_openings(material, "", n_neutral, seed)
    plan = sha256_json([model.content_hash, seed, asdict(settings), [asdict(opening.label) for opening in openings],
                        {emotion: material.forbidden[emotion] for emotion in (*emotions, "")}])
    if out_path.exists():
        return _written_before(out_path, plan)
    desk = _Desk(model, material, settings, seed, openings, plan, out_path)
    desk.write()
    texts = [desk.finished[opening.label.id] for opening in openings if opening.label.id in desk.finished]
    kept = Counter(text.emotion for text in texts)
    empty = [emotion for emotion in emotions if not kept[emotion]]
    if empty:
        raise Failure(f"the model wrote no usable story of '{empty[0]}' in {settings.attempts} attempts at each of {n_per_emotion}",
                      cure="leave this emotion out, or bring stories of your own as JSONL")
    save_stories(out_path, texts)
    report = {"schema": SCHEMA, "plan": plan, "sha256": sha256_file(out_path), "seed": seed, "model_hash": model.content_hash,
              "settings": asdict(settings), "planned": len(openings), "kept": len(texts), "kept_per_emotion": dict(kept),
              "thrown_away": dict(desk.thrown_away)}
    write_text(report_path(out_path), json.dumps(report, indent=2, sort_keys=True) + "\n")
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
        raise UserError(f"{path} is not a readable report of self-written stories", cure=f"delete {out_path} and run again") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise UserError(f"{path} is not a report of self-written stories", cure=f"delete {out_path} and run again")
    return report


def _written_before(out_path: Path, plan: str) -> list[LabelledText]:
    report = read_report(out_path)
    if report["plan"] != plan:
        raise UserError(f"{out_path} holds stories of another model, seed or settings", cure="delete it or choose another directory")
    if report["sha256"] != sha256_file(out_path):
        raise UserError(f"{out_path} was changed after it was written", cure="delete it and run again, or use it as JSONL material")
    return read_stories(out_path)


class _Desk:
    """One call's work in progress: which story was tried how often, and what is finished. Saved after every batch."""

    def __init__(self, model: Any, material: StoryMaterial, settings: StorySettings, seed: int, openings: Sequence[Opening],
                 plan: str, out_path: Path):
        self.model, self.material, self.settings, self.seed, self.plan = model, material, settings, seed, plan
        self.openings = {opening.label.id: opening for opening in openings}
        self.prompts = {name: list(model.encode(opening.text)) for name, opening in self.openings.items()}
        self.part = Path(f"{out_path}.part")
        # What became of each attempt: id -> outcomes ("kept", "named" or "short"), and the kept texts.
        self.outcomes: dict[str, list[str]] = defaultdict(list)
        self.finished: dict[str, LabelledText] = {}
        self.banned: dict[str, torch.Tensor] = {}
        self.vocabulary = [text.strip().lower() if text.startswith(" ") else None for text in model.token_texts(range(model.d_vocab))]
        self._resume()

    @property
    def thrown_away(self) -> Counter:
        """How many attempts were thrown away, by reason."""
        return Counter(outcome for outcomes in self.outcomes.values() for outcome in outcomes if outcome != "kept")

    def write(self) -> None:
        """Writes all stories; a batch is a pure function of the plan, so a resumed call makes the same batches."""
        with bar(len(self.openings), "stories") as shown:
            shown.update(len(self.finished))
            for attempt in range(self.settings.attempts):
                for batch in self._batches(attempt):
                    if all(len(self.outcomes[name]) > attempt for name in batch):
                        continue
                    before = len(self.finished)
                    self._write_batch(batch, attempt)
                    self._save()
                    shown.update(len(self.finished) - before)

    def _batches(self, attempt: int) -> list[list[str]]:
        groups: dict[tuple[str, int], list[str]] = defaultdict(list)
        for name, opening in self.openings.items():
            if all(outcome != "kept" for outcome in self.outcomes[name][:attempt]):
                groups[opening.label.emotion, len(self.prompts[name])].append(name)
        size = self.settings.batch_size
        return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]

    def _write_batch(self, batch: list[str], attempt: int) -> None:
        settings, emotion = self.settings, self.openings[batch[0]].label.emotion
        room = min(settings.new_tokens, self.model.n_ctx - len(self.prompts[batch[0]]))
        uniforms = torch.stack([torch.from_numpy(generator(self.seed, "story", name, attempt).random(room)) for name in batch])
        stop = {token for token in (self.model.bos_id, self.model.tokenizer.eos_token_id) if token is not None}
        written = sample_continuations(self.model, torch.tensor([self.prompts[name] for name in batch]), uniforms,
                                       temperature=settings.temperature, banned=self._banned(emotion), stop=tuple(stop))
        for name, tokens in zip(batch, written, strict=True):
            label = self.openings[name].label
            text = whole_sentences(label.text, self.model.tokenizer.decode(self.prompts[name] + tokens, skip_special_tokens=True))
            if len(tokens) < settings.min_new_tokens or text == label.text:
                self.outcomes[name].append("short")
            elif self.material.names(emotion, text):
                self.outcomes[name].append("named")
            else:
                self.outcomes[name].append("kept")
                self.finished[name] = replace(label, text=text)

    def _banned(self, emotion: str) -> torch.Tensor:
        if emotion not in self.banned:
            words = set(self.material.forbidden[emotion])
            self.banned[emotion] = torch.tensor([word in words for word in self.vocabulary])
        return self.banned[emotion]

    def _save(self) -> None:
        rows = {name: [outcomes, self.finished[name].text if name in self.finished else None] for name, outcomes in self.outcomes.items()}
        write_text(self.part, json.dumps({"plan": self.plan, "stories": rows}, ensure_ascii=False))

    def _resume(self) -> None:
        try:
            saved = json.loads(self.part.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if saved.get("plan") == self.plan:
            for name, (outcomes, text) in saved["stories"].items():
                self.outcomes[name] = outcomes
                if text is not None:
                    self.finished[name] = replace(self.openings[name].label, text=text)


def whole_sentences(opening: str, text: str) -> str:
    """The text cut after its last whole sentence, but never before the end of the opening."""
    text = " ".join(text.split())
    end = max(text.rfind(mark) + len(mark) for mark in ('."', '!"', '?"', ".", "!", "?"))
    return text[:end] if end > len(opening) else opening
