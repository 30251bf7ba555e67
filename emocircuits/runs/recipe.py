"""Recipes: TOML files that become frozen settings. An unknown key or a wrong value is an error that names the
key.
"""

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from emocircuits.activations.settings import CollectSettings
from emocircuits.circuits.settings import CircuitSettings
from emocircuits.directions.settings import DirectionSettings
from emocircuits.errors import UserError, nearest, unknown
from emocircuits.matching.settings import MatchSettings
from emocircuits.runs.sections import (
    AttributeSettings,
    CheckSettings,
    EvaluateSettings,
    PreferenceSettings,
    SAESourceSettings,
    SteerSettings,
    TraceSettings,
)
from emocircuits.sae.settings import SAESettings
from emocircuits.settings import ABOUT, Key, check, keys, setting, typed

BEHAVIOURS = (
    "blackmail",
    "blackmail_choice",
    "blackmail_own",
    "claims_tests_passed",
    "deception",
    "felt_very",
    "notices_impossible",
    "preference",
    "refuse",
    "revenge",
    "reward_hacking",
    "reward_hacking_choice",
    "reward_hacking_code",
    "reward_hacking_own",
    "sycophancy",
    "sycophancy_choice",
    "sycophancy_own",
)
PROFILES = ("quick", "standard", "full")


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a run."""

    name: str = setting("organism", "of the recipe; the default run directory is called after it")
    model: str = setting("organism", "organism, planted, a directory, a GGUF file, or a Hugging Face id")
    emotion: str = setting("desperate", "the emotion whose circuits are asked for")
    opposite: str = setting("calm", "the emotion at the other end")
    behaviours: tuple[str, ...] = setting(
        ("blackmail", "reward_hacking"), "what the model may do under pressure", choices=BEHAVIOURS, open=True
    )
    layers: tuple[float, ...] = setting(
        (),
        "blocks whose streams are read, decomposed and traced: numbers from 0, or fractions of depth between "
        "0 and 1; empty is all",
        least=0,
    )
    seed: int = setting(0, "of everything random", least=0)
    device: str = setting("cpu", "torch device: cpu, cuda, cuda:1, mps")
    dtype: str = setting("float32", "of the model", choices=("float32", "bfloat16", "float64"))
    device_map: str = setting(
        "", "how the layers of a large model are spread over devices, e.g. auto; empty puts all on one"
    )
    revision: str = setting("", "of a Hugging Face id; empty is its main branch, and the commit is recorded")
    threads: int = setting(2, "threads of torch, and sites matched at the same time", unit="threads", least=1)
    memory_gb: float = setting(
        0.0,
        "what passes over prompts may take; their tokens follow from it; 0 takes attribute.max_tokens",
        unit="GiB",
        least=0,
    )
    collect: CollectSettings = field(default_factory=CollectSettings)
    directions: DirectionSettings = field(default_factory=DirectionSettings)
    checks: CheckSettings = field(default_factory=CheckSettings)
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)
    sae: SAESettings = field(default_factory=SAESettings)
    sae_source: SAESourceSettings = field(default_factory=SAESourceSettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    attribute: AttributeSettings = field(default_factory=AttributeSettings)
    circuit: CircuitSettings = field(default_factory=CircuitSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    steer: SteerSettings = field(default_factory=SteerSettings)

    def __post_init__(self) -> None:
        check(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def load_recipe(
    source: str | Path | None, overrides: tuple[str, ...] = (), *, profile: str | None = None
) -> Recipe:
    """Reads a recipe.

    Args:
        source: path of a TOML file, the name of an embedded recipe, or None for the default.
        profile: `quick`, `standard` or `full`: what the keys are that the recipe does not state. Without a
            recipe the profile is the recipe.
        overrides: `key=value` texts, e.g. `sae.k=16`; values are TOML (a bare word is a string).

    Raises:
        UserError: no such file, not TOML, an unknown profile or key, or a value of the wrong type.
    """
    if profile is None:
        return recipe_from_dict(_read_table(source), overrides)
    table = _read_profile(profile)
    return recipe_from_dict(_merged(table, {} if source is None else _read_table(source)), overrides)


def _read_profile(name: str) -> dict[str, Any]:
    paths = {path.stem: path for path in (Path(__file__).parent / "profiles").glob("*.toml")}
    if name not in paths:
        raise unknown("profile", name, PROFILES)
    return {"name": name} | tomllib.loads(paths[name].read_text(encoding="utf-8"))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The keys of both; those above win, table by table."""
    return below | {
        key: _merged(below[key], value)
        if isinstance(value, dict) and isinstance(below.get(key), dict)
        else value
        for key, value in above.items()
    }


def recipe_from_dict(table: dict[str, Any], overrides: tuple[str, ...] = ()) -> Recipe:
    """Builds a recipe from plain values and `key=value` overrides; what is absent keeps its default."""
    for text in overrides:
        _override(table, text)
    return _build(Recipe(), table, "")


def recipe_keys() -> tuple[Key, ...]:
    """Every key of a recipe in its order, with type, default, unit, meaning and what it may be."""
    found: list[Key] = list(keys(Recipe))
    for item in fields(Recipe):
        if ABOUT not in item.metadata:
            found += keys(item.type, item.name)
    return tuple(found)


def _read_table(source: str | Path | None) -> dict[str, Any]:
    embedded = {path.stem: path for path in (Path(__file__).parent / "recipes").glob("*.toml")}
    if source is None:
        path = embedded["organism"]
    elif str(source) in embedded:
        path = embedded[str(source)]
    else:
        path = Path(source)
    if not path.is_file():
        error = unknown("recipe", str(source), embedded)
        raise UserError(error.what, expected="a TOML file or the name of an embedded recipe", cure=error.cure)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not TOML: {error}") from error


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}", expected="key=value, e.g. --set sae.k=16")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *groups, last = key.strip().split(".")
    if key.strip() not in _names():
        raise _unknown_key(key.strip())
    for group in groups:
        table = table.setdefault(group, {})
    table[last] = parsed


def _build(default: Any, table: dict[str, Any], prefix: str) -> Any:
    known = {item.name: item for item in fields(default)}
    changes = {}
    for name, value in table.items():
        key = prefix + name
        if name not in known:
            raise _unknown_key(key)
        current = getattr(default, name)
        if not is_dataclass(current):
            changes[name] = typed(key, value, known[name].type)
        elif isinstance(value, dict):
            changes[name] = _build(current, value, f"{key}.")
        else:
            raise UserError(f"{key} is {value!r}", expected="a table")
    return replace(default, **changes)


def _names() -> list[str]:
    return [key.name for key in recipe_keys()]


def _unknown_key(key: str) -> UserError:
    near = nearest(key, _names())
    cure = f"did you mean '{near}'? " if near else ""
    return UserError(f"unknown recipe key '{key}'", cure=f"{cure}all keys: emocircuits recipe")
