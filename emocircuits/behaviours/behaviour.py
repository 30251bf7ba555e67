"""What a behaviour is: a card that names the action words and where the prompt pairs lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from emocircuits.behaviours.material import PROMPTS, SPLITS, Form, Material
from emocircuits.behaviours.natural import LETTERS
from emocircuits.errors import unknown
from emocircuits.registry import Registry

if TYPE_CHECKING:
    from emocircuits.passes.task import Task

NOTES: Mapping[Form, str] = {
    "words": "Of the scenario's candidate words those that are single tokens of the model; wordings of "
    "equal length for its tokenizer.",
    "own": "The words that the model itself would write next once it has decided for the act or for the "
    "honest deed, chosen on prompts to find and frozen.",
    "choice": "The act and the honest deed as options (A) and (B), every pair in both orders, so that a "
    "liking for the first option or for a letter cancels.",
}


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

    def tasks(
        self,
        model: Any,
        saes: Mapping[str, Any] = MappingProxyType({}),
        *,
        limit: int | None = None,
        max_tokens: int | None = None,
    ) -> tuple["Task", "Task"]:
        """The behaviour as two tasks of a model: to find a circuit on, and, held out, to score it on.

        Args:
            model: a `LanguageModel`.
            saes: site -> SAE; without them nodes are the model's components.
            limit: at most this many prompt pairs each, thinned evenly; None for all.
            max_tokens: tokens of one side per pass; None for a task's own default.

        Raises:
            UserError: no material of the behaviour fits the model's tokenizer; the message says why for each.
        """
        from emocircuits.behaviours.bind import bind  # brings torch, which cards do without

        bound = bind(self, model)
        find, score = (bound.task(split, saes, limit=limit, max_tokens=max_tokens) for split in SPLITS)
        return find, score


BEHAVIOURS: Registry[Behaviour] = Registry("behaviour")


def add_behaviour(
    name: str,
    title: str,
    summary: str,
    materials: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]],
    natural: Mapping[str, int] = MappingProxyType({}),
    scenario: str = "",
    folder: str | Path = PROMPTS,
) -> Behaviour:
    """Makes a card and registers it.

    Args:
        name, title, summary: as in `Behaviour`.
        materials: a material's name -> (targets, honest, note).
        natural: name of a material made of a scenario -> ordinary mails in its prompts; tried after the
            others. The material `choice` asks it as a forced choice, `own` by the model's own words.
        scenario: its file in `natural/`; `<name>.toml` where none is given.
        folder: where the prompts `<behaviour>.<material>.jsonl` lie; by default those of the package.
    """
    made = {key: Material(name, key, *parts, folder=Path(folder)) for key, parts in materials.items()}
    for key, mails in natural.items():
        form: Form = key if key in ("own", "choice") else "words"
        letters = (LETTERS[:1], LETTERS[1:]) if form == "choice" else ((), ())
        made[key] = Material(name, key, *letters, NOTES[form], scenario or f"{name}.toml", mails, form=form)
    return BEHAVIOURS.add(Behaviour(name, title, summary, MappingProxyType(made)))


def behaviour(name: str) -> Behaviour:
    """A behaviour by its name.

    Raises:
        UserError: there is none; the message lists all.
    """
    return BEHAVIOURS.get(name)
