"""The page of a recipe's keys, made from the settings themselves."""

from itertools import groupby

from command_line import cell

from emocircuits.cli.recipe import explained, toml_value
from emocircuits.settings import Key

HEAD = """# Recipe keys

Made from the settings: what stands here is what `emocircuits recipe` says. A recipe is a TOML file; what it
leaves out keeps its default. `--set key=value` changes one key of a run. Every value is checked before the
first stage runs.
"""


def recipe_page(keys: tuple[Key, ...]) -> str:
    """Markdown with a table per section."""
    parts = [HEAD]
    for section, members in groupby(keys, key=lambda key: key.name.rpartition(".")[0]):
        parts.append(f"## {cell(f'[{section}]') if section else 'The run'}\n")
        rows = [
            f"| `{key.name}` | {key.type} | {cell(toml_value(key.default))} | {cell(explained(key))} |"
            for key in members
        ]
        parts.append(
            "\n".join(["| key | type | default | what it is |", "| --- | --- | --- | --- |", *rows, ""])
        )
    return "\n".join(parts)
