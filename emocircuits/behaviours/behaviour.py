"""What a behaviour is: a card that names the action words and where the prompt pairs lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from emocircuits.errors import unknown
from emocircuits.registry import Registry

PROMPTS = Path(__file__).parent / "prompts"
NATURAL_NOTE = (
    "Of the scenario's candidate words those that are single tokens of the model; wordings of "
    "equal length for its tokenizer."
)
Split = Literal["find", "score"]
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
    """

    behaviour: str
    name: str
    targets: tuple[str, ...]
    honest: tuple[str, ...]
    note: str = ""
    scenario: str = ""
    mails: int = 0
    folder: Path = PROMPTS

    @property
    def path(self) -> Path:
        """The JSONL file of its prompt pairs."""
        return self.folder / f"{self.behaviour}.{self.name}.jsonl"


@dataclass(frozen=True)
class Behaviour:
    """A card: what the behaviour is, its action words and its prompts.

    Attributes:
        name: name in the registry.
        title: for headings.
        summary: one or two sentences.
        materials: the registers it exists in, the default first.
    """

    name: str
    title: str
    summary: str
    materials: Mapping[str, Material]

    @property
    def targets(self) -> tuple[str, ...]:
        """Action words in the default material."""
        return next(iter(self.materials.values())).targets

    @property
    def honest(self) -> tuple[str, ...]:
        """Competing words in the default material."""
        return next(iter(self.materials.values())).honest

    def material(self, name: str) -> Material:
        """One of its materials.

        Raises:
            UserError: it has no such material; the message lists what it has.
        """
        if name not in self.materials:
            raise unknown(f"material of behaviour '{self.name}'", name, self.materials)
        return self.materials[name]


BEHAVIOURS: Registry[Behaviour] = Registry("behaviour")


def register(
    name: str,
    title: str,
    summary: str,
    materials: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]],
    natural: Mapping[str, int] = MappingProxyType({}),
    folder: str | Path = PROMPTS,
) -> Behaviour:
    """Makes a card and registers it.

    Args:
        name, title, summary: as in `Behaviour`.
        materials: a material's name -> (targets, honest, note).
        natural: name of a material made of `natural/<name>.toml` -> ordinary mails in its prompts; tried
            after the others.
        folder: where the prompts `<behaviour>.<material>.jsonl` lie; by default those of the package.
    """
    made = {key: Material(name, key, *parts, folder=Path(folder)) for key, parts in materials.items()}
    for key, mails in natural.items():
        made[key] = Material(name, key, (), (), NATURAL_NOTE, f"{name}.toml", mails)
    return BEHAVIOURS.add(Behaviour(name, title, summary, MappingProxyType(made)))
