"""`emocircuits recipe`: every key of a recipe with its default, unit and meaning."""

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from emocircuits.cli.verb import JSON, Verb, switch
from emocircuits.settings import Key


def recipe(arguments: argparse.Namespace) -> int:
    """Prints every key."""
    from emocircuits.runs.recipe import recipe_keys

    keys = recipe_keys()
    if arguments.json:
        print(json.dumps([as_json(key) for key in keys], ensure_ascii=False))
    elif arguments.toml:
        print(toml_text(keys), end="")
    else:
        print("\n".join(lines(keys)))
    return 0


def lines(keys: Sequence[Key]) -> list[str]:
    """One line a key: name, default with its unit, what it is and may be; a blank line between sections."""
    width = max(len(key.name) for key in keys)
    shown: list[str] = []
    for section, members in groupby(keys, key=_section):
        shown += ["", f"[{section}]"] if section else []
        for key in members:
            default = f"{toml_value(key.default)} {key.about.unit}".strip()
            allowed = f" ({key.about.allowed})" if key.about.allowed else ""
            shown.append(f"{key.name:<{width}}  {default:<18}  {key.about.meaning}{allowed}")
    return shown


def toml_text(keys: Sequence[Key]) -> str:
    """A whole recipe of the defaults, which `emocircuits run` takes."""
    shown: list[str] = []
    for section, members in groupby(keys, key=_section):
        shown += ["", f"[{section}]"] if section else []
        for key in members:
            shown += [f"# {explained(key)}", f"{key.name.rpartition('.')[2]} = {toml_value(key.default)}"]
    return "\n".join(shown) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return str(round(value, 6)) if round(value, 6) == value else repr(value)
    return json.dumps(value, ensure_ascii=False)


def explained(key: Key) -> str:
    """What a key is, its unit, and what it may be."""
    further = "; ".join(part for part in (key.about.unit, key.about.allowed) if part)
    return f"{key.about.meaning} ({further})" if further else key.about.meaning


def as_json(key: Key) -> dict[str, Any]:
    """A key as plain values."""
    about = key.about
    return {
        "key": key.name,
        "type": key.type,
        "default": key.default,
        "unit": about.unit,
        "meaning": about.meaning,
        "allowed": about.allowed,
    }


def _section(key: Key) -> str:
    return key.name.rpartition(".")[0]


RECIPE = Verb(
    "recipe",
    "every key of a recipe: default, unit, meaning",
    recipe,
    (switch("--toml", "print a recipe of the defaults, with comments"), JSON),
    ("emocircuits recipe", "emocircuits recipe --toml > my.toml"),
    "Values are checked before the first stage of a run.",
)
