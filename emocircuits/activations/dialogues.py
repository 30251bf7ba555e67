"""Dialogues in which every speaker has an emotion of their own, and perhaps shows another: material for
speaker directions.

As JSONL, one dialogue a line:

    {"id": "d1", "split": "train", "topic": "cooking", "felt": {"Anna": "calm", "Ben": "angry"}, "shown":
     {"Ben": "happy"}, "lines": [{"speaker": "", "text": "It was late."}, {"speaker": "Anna", "text": "Anna:
     Sit down."},
               {"speaker": "Ben", "text": "Ben's jaw was set.", "voice": "narration"}, {"speaker": "Ben",
               "text": "Ben: Gladly!"}]}

`felt` names the emotion of each speaker, `shown` of those who mask it; a line is speech unless `voice` says
narration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emocircuits.activations.spans import SpanText
from emocircuits.errors import UserError
from emocircuits.io.documents import read_jsonl

VOICES = ("speech", "narration")


@dataclass(frozen=True)
class Line:
    """One line: whom it belongs to ("" for nobody), what it says, and whether it is said or told."""

    speaker: str
    text: str
    voice: str = "speech"


@dataclass(frozen=True)
class LabelledDialogue:
    """A dialogue with the emotions of its speakers.

    Attributes:
        id: unique name.
        lines: in order; the text is these lines.
        felt: speaker -> emotion.
        shown: speaker -> emotion they show in place of it, for those who mask.
        topic: the everyday topic, "" where there is none.
        split: `train` or `held_out`.
    """

    id: str
    lines: tuple[Line, ...]
    felt: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)
    topic: str = ""
    split: str = "train"

    @property
    def text(self) -> str:
        """The whole text."""
        return "\n".join(line.text for line in self.lines)

    def places(self) -> list[tuple[int, int]]:
        """Where every line stands in the text."""
        starts, at = [], 0
        for line in self.lines:
            starts.append((at, at + len(line.text)))
            at += len(line.text) + 1
        return starts


def speaker_spans(dialogues: Sequence[LabelledDialogue]) -> list[SpanText]:
    """For each of two speakers, their lines from when both have been heard; kind `speaker`.

    The label `emotion` is the present speaker's and `other` the other's. Dialogues with more or fewer than
    two speakers, with a mask, or without such lines are left out.
    """
    spans = []
    for dialogue in dialogues:
        if len(dialogue.felt) != 2 or dialogue.shown:
            continue
        line_spans, heard = dialogue.places(), set()
        lines: dict[str, list[tuple[int, int]]] = {speaker: [] for speaker in dialogue.felt}
        for line, line_span in zip(dialogue.lines, line_spans, strict=True):
            if line.speaker and len(heard) == 2:
                lines[line.speaker].append(line_span)
            heard |= {line.speaker} - {""}
        first, second = dialogue.felt
        spans += [
            SpanText(
                f"{dialogue.id}/{speaker}",
                dialogue.text,
                tuple(lines[speaker]),
                dialogue.felt[speaker],
                dialogue.topic,
                "speaker",
                dialogue.split,
                {"other": dialogue.felt[other], "shown": ""},
            )
            for speaker, other in ((first, second), (second, first))
            if lines[speaker] and dialogue.felt[speaker] and dialogue.felt[other]
        ]
    return spans


def masked_spans(dialogues: Sequence[LabelledDialogue]) -> list[SpanText]:
    """What a masking speaker says after something told has given the emotion away; kind `masked`.

    The label `emotion` is what is felt and `shown` what is shown.
    """
    found = []
    for dialogue in dialogues:
        for speaker, shown in dialogue.shown.items():
            spans, told = [], False
            for line, place in zip(dialogue.lines, dialogue.places(), strict=True):
                if line.speaker == speaker and line.voice == "speech" and told:
                    spans.append(place)
                told = told or (line.speaker == speaker and line.voice == "narration")
            if spans:
                found.append(
                    SpanText(
                        f"{dialogue.id}/{speaker}/masked",
                        dialogue.text,
                        tuple(spans),
                        dialogue.felt[speaker],
                        dialogue.topic,
                        "masked",
                        dialogue.split,
                        {"other": "", "shown": shown},
                    )
                )
    return found


def read_dialogues(path: str | Path) -> list[LabelledDialogue]:
    """Reads a JSONL file of dialogues.

    Raises:
        UserError: no such file, or a line that is not right; the message names line and field.
    """
    return read_jsonl(path, "dialogue", "dialogues", _dialogue)


def _dialogue(value: dict[str, Any], where: str, default_id: str) -> LabelledDialogue:
    known = ("id", "split", "topic", "felt", "shown", "lines")
    for key in value:
        if key not in known:
            raise UserError(f"{where}: unknown field '{key}'", expected=f"some of {', '.join(known)}")
    felt, shown = (_emotions(value.get(key, {}), f"{where}: field '{key}'") for key in ("felt", "shown"))
    if not felt or not set(shown) <= set(felt):
        raise UserError(
            f"{where}: felt names {', '.join(felt) or 'nobody'}, shown names {', '.join(shown) or 'nobody'}",
            expected="the emotion of every speaker in 'felt', and in 'shown' only speakers named there",
        )
    lines = tuple(_line(line, felt, where) for line in value.get("lines") or ())
    if not lines:
        raise UserError(
            f"{where}: field 'lines' is missing or empty", expected='a list of {"speaker": …, "text": …}'
        )
    texts = {
        key: str(value.get(key) or default)
        for key, default in (("id", default_id), ("topic", ""), ("split", "train"))
    }
    return LabelledDialogue(texts["id"], lines, felt, shown, texts["topic"], texts["split"])


def _emotions(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(emotion, str) for emotion in value.values()):
        raise UserError(f"{where} is {value!r}", expected="an object from speaker to emotion")
    return dict(value)


def _line(value: Any, felt: Mapping[str, str], where: str) -> Line:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or not value["text"].strip():
        raise UserError(f"{where}: a line is {value!r}", expected='{"speaker": …, "text": …}')
    speaker, voice = value.get("speaker", ""), value.get("voice", "speech")
    if speaker and speaker not in felt:
        raise UserError(
            f"{where}: the speaker '{speaker}' has no emotion in 'felt'", expected=f"one of {', '.join(felt)}"
        )
    if voice not in VOICES:
        raise UserError(f"{where}: voice '{voice}'", expected=" or ".join(VOICES))
    return Line(speaker, value["text"], voice)
