"""The work in progress of self-written stories: batches, the forbidden-word filter, and what a killed call
resumes from.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emocircuits.activations.prompts import LabelledText
from emocircuits.activations.sampling import sample_continuations
from emocircuits.activations.story_material import Opening
from emocircuits.io.atomic import write_text
from emocircuits.numerics import generator
from emocircuits.progress import bar

REASONS = ("named", "short", "broken")
RUN = 4  # words


@dataclass(frozen=True)
class StorySettings:
    """How stories are written.

    Attributes:
        new_tokens: tokens sampled after the opening, at most.
        min_new_tokens: a shorter continuation is written again.
        temperature, top_p: of the sampling.
        attempts: how often a story is tried before it is left out.
        batch_size: stories written together.
        most_repeated: share of a text's runs of four words that may have been there before.
    """

    new_tokens: int = 64
    min_new_tokens: int = 16
    temperature: float = 0.8
    top_p: float = 1.0
    attempts: int = 4
    batch_size: int = 64
    most_repeated: float = 1 / 3


class StoryWriter:
    """Writes the stories of one call: which was tried how often, and what is finished. Saved after every
    batch.
    """

    def __init__(
        self,
        model: Any,
        material: Any,
        settings: StorySettings,
        seed: int,
        openings: Sequence[Opening],
        ground: str,
        out_path: Path,
    ):
        self.model, self.material, self.settings, self.seed = model, material, settings, seed
        self.ground = ground  # what a text depends on besides its own opening
        self.before: dict[str, list[Any]] = {}
        self.finished_report = report_path(out_path)
        self.openings = {opening.label.id: opening for opening in openings}
        self.prompts = {name: list(model.encode(opening.text)) for name, opening in self.openings.items()}
        self.part = Path(f"{out_path}.part")
        # What became of each attempt: id -> outcomes ("kept" or one of REASONS), and the kept texts.
        self.outcomes: dict[str, list[str]] = defaultdict(list)
        self.finished: dict[str, LabelledText] = {}
        self.banned: dict[str, torch.Tensor] = {}
        self.words = [
            text.strip().lower() if text.startswith(" ") else None
            for text in model.token_texts(range(model.d_vocab))
        ]
        self._resume()

    @property
    def thrown_away(self) -> Counter:
        """How many attempts were thrown away, by reason."""
        return Counter(
            outcome for outcomes in self.outcomes.values() for outcome in outcomes if outcome != "kept"
        )

    def table(self) -> list[dict[str, Any]]:
        """One row per emotion ("neutral" for none): how many stories were planned and kept, and how many
        attempts were thrown away for which reason.
        """
        rows: dict[str, Counter] = defaultdict(Counter)
        for name, opening in self.openings.items():
            row = rows[opening.label.emotion or "neutral"]
            row["planned"] += 1
            row["kept"] += name in self.finished
            row.update(outcome for outcome in self.outcomes[name] if outcome != "kept")
        names = ("planned", "kept", *REASONS)
        return [{"emotion": emotion, **{name: row[name] for name in names}} for emotion, row in rows.items()]

    def write(self) -> None:
        """Writes all stories; a batch is a pure function of the plan, so a resumed call makes the same
        batches.
        """
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
        """Stories that need this attempt, those of similar length together."""
        todo = [
            name
            for name in self.openings
            if all(outcome != "kept" for outcome in self.outcomes[name][:attempt])
        ]
        todo.sort(key=lambda name: len(self.prompts[name]))
        size = self.settings.batch_size
        return [todo[start : start + size] for start in range(0, len(todo), size)]

    def _write_batch(self, batch: list[str], attempt: int) -> None:
        settings, model = self.settings, self.model
        room = {
            name: max(0, min(settings.new_tokens, model.n_ctx - len(self.prompts[name]))) for name in batch
        }
        written = sample_continuations(
            model,
            [self.prompts[name] for name in batch],
            [generator(self.seed, "story", name, attempt).random(room[name]) for name in batch],
            temperature=settings.temperature,
            top_p=settings.top_p,
            banned=torch.stack([self._banned(self.openings[name].label.emotion) for name in batch]),
            stop=[*model.stop_ids, *([] if model.bos_id is None else [model.bos_id])],
        )
        for name, tokens in zip(batch, written, strict=True):
            label, asked = self.openings[name].label, bool(self.openings[name].request)
            before = [] if asked else self.prompts[name]  # a request is no part of the story
            text = whole_sentences(
                label.text, self.model.tokenizer.decode(before + tokens, skip_special_tokens=True)
            )
            if len(tokens) < settings.min_new_tokens or text == label.text:
                self.outcomes[name].append("short")
            elif self.material.names(label.emotion, text):
                self.outcomes[name].append("named")
            elif is_broken(text, settings.most_repeated):
                self.outcomes[name].append("broken")
            else:
                self.outcomes[name].append("kept")
                self.finished[name] = replace(label, text=text)

    def _banned(self, emotion: str) -> torch.Tensor:
        if emotion not in self.banned:
            words = set(self.material.forbidden[emotion])
            self.banned[emotion] = torch.tensor([word in words for word in self.words])
        return self.banned[emotion]

    def written(self) -> dict[str, list[Any]]:
        """All that was written, also for openings that are not asked for now: id -> the opening, what became
        of each attempt, and the text where one was kept.
        """
        now = {
            name: [
                self.openings[name].text,
                outcomes,
                self.finished[name].text if name in self.finished else None,
            ]
            for name, outcomes in self.outcomes.items()
            if outcomes
        }
        return self.before | now

    def _save(self) -> None:
        saved = {"ground": self.ground, "stories": self.written()}
        write_text(self.part, json.dumps(saved, ensure_ascii=False))

    def _resume(self) -> None:
        """Takes what was written before on the same ground, by a call that was killed or asked for less."""
        for path in (self.finished_report, self.part):
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if saved.get("ground") != self.ground:
                continue
            self.before |= saved["stories"]
            for name, (opening, outcomes, text) in saved["stories"].items():
                if name in self.openings and self.openings[name].text == opening:
                    self.outcomes[name] = list(outcomes)
                    if text is not None:
                        self.finished[name] = replace(self.openings[name].label, text=text)


def report_path(out_path: str | Path) -> Path:
    """Where the report of a story file lies."""
    return Path(f"{out_path}.report.json")


def is_broken(text: str, most_repeated: float) -> bool:
    """Whether a text holds half a character, or goes round in circles: more of its runs of four words than
    that share were there before.
    """
    words = text.lower().split()
    runs = [tuple(words[begin : begin + RUN]) for begin in range(len(words) - RUN + 1)]
    return "\ufffd" in text or len(set(runs)) < (1 - most_repeated) * len(runs)


def whole_sentences(opening: str, text: str) -> str:
    """The text cut after its last whole sentence, but never before the end of the opening."""
    text = " ".join(text.split())
    end = max(text.rfind(mark) + len(mark) for mark in ('."', '!"', '?"', ".", "!", "?"))
    return text[:end] if end > len(opening) else opening
