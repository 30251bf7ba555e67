"""The page of a recipe's keys, made from the settings themselves."""

from itertools import groupby

from command_line import cell

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
        parts.append(
            f"## {f'[{section}]' if section else 'The run'}\n".replace("[", "\\[").replace("]", "\\]")
        )
        rows = [f"| `{key.name}` | {key.type} | {default(key)} | {meaning(key)} |" for key in members]
        parts.append(
            "\n".join(["| key | type | default | what it is |", "| --- | --- | --- | --- |", *rows, ""])
        )
    return "\n".join(parts)


def default(key: Key) -> str:
    """A default as TOML has it."""
    if isinstance(key.default, tuple):
        return cell(
            "[" + ", ".join(f'"{one}"' if isinstance(one, str) else f"{one:g}" for one in key.default) + "]"
        )
    if isinstance(key.default, str):
        return cell(f'"{key.default}"')
    if isinstance(key.default, bool):
        return str(key.default).lower()
    return f"{key.default:g}" if isinstance(key.default, float) else str(key.default)


def meaning(key: Key) -> str:
    """What a key means, its unit, and what it may be."""
    about = key.about
    further = "; ".join(part for part in (f"in {about.unit}" if about.unit else "", about.allowed) if part)
    return cell(about.meaning + (f" ({further})" if further else ""))
