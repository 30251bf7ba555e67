"""Prompt pairs of a behaviour, and the form it takes in one register of text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PROMPTS = Path(__file__).parent / "prompts"
Split = Literal["find", "score"]
Form = Literal["words", "own", "choice"]
SPLITS: tuple[Split, ...] = ("find", "score")


@dataclass(frozen=True)
class PromptPair:
    """Two prompts of equal token length that end right before the action word.

    Attributes:
        id: unique in its file.
        clean: the circumstances are desperate.
        corrupt: the circumstances are calm.
        split: "find" for discovering a circuit, "score" for scoring it; never mixed.
        true_clean: P(target action | the text of `clean`) where the world that made the text is known, else
            None.
        true_corrupt: the same for `corrupt`.
        details: what else matters, e.g. {"failures": 3}.
    """

    id: str
    clean: str
    corrupt: str
    split: Split
    true_clean: float | None = None
    true_corrupt: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """The form a behaviour takes in one register of text.

    Attributes:
        behaviour: name of the behaviour.
        name: name of the register, e.g. "organism"; the prompts lie in `prompts/<behaviour>.<name>.jsonl`.
        targets: action words of the behaviour, each one token of the models this register is for.
        honest: the words they compete with.
        note: what a reader must know about the choice of words.
        scenario: file in `natural/` that pairs are made of for each model (`natural.py`); "" where they
            are ready as JSONL.
        mails: ordinary mails in every prompt of the scenario, to make it long.
        folder: where its prompts lie.
        form: how the scenario is asked: by `words` of its file, by the model's `own` words, or as a forced
            `choice` between (A) and (B), in both orders.
        left_out: words of the scenario that are no single tokens of the model, and so are not counted.
    """

    behaviour: str
    name: str
    targets: tuple[str, ...]
    honest: tuple[str, ...]
    note: str = ""
    scenario: str = ""
    mails: int = 0
    folder: Path = PROMPTS
    left_out: tuple[str, ...] = ()
    form: Form = "words"

    @property
    def path(self) -> Path:
        """The JSONL file of its prompt pairs."""
        return self.folder / f"{self.behaviour}.{self.name}.jsonl"
