"""The documentation's own code: the command line's page is whole, commands in pages parse, notebooks run and
assert.
"""

import re
import runpy
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("0*.py"))


@pytest.fixture(scope="module")
def page_of():
    """The modules that make pages."""
    sys.path.insert(0, str(DOCS / "_ext"))
    import command_line

    yield command_line
    sys.path.remove(str(DOCS / "_ext"))


def test_the_command_lines_page_is_whole(page_of):
    from emocircuits.cli.main import build_parser

    page, commands = page_of.command_line_page(build_parser()), page_of.subcommands(build_parser())
    assert len(commands) > 20
    for name, (parser, does) in commands.items():
        section = page_of.section(name, parser, does)
        assert section in page, name
        assert does or parser.description, f"{name} says nothing about itself"
        for action in parser._actions:
            if action.dest == "help":
                continue
            assert all(option in section for option in action.option_strings), (name, action.dest)
            assert action.help or action.metavar or action.choices, f"{name}: {action.dest} is not described"


def test_the_page_of_recipe_keys_is_whole(page_of):
    import recipe_page

    from emocircuits.runs.recipe import recipe_keys

    page = recipe_page.recipe_page(recipe_keys())
    for key in recipe_keys():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{key.name}` |"))
        assert page_of.cell(key.about.meaning) in line and recipe_page.default(key) in line


def test_commands_in_the_pages_exist(page_of):
    """Every `emocircuits …` line of a console block parses: commands, options and their values."""
    from emocircuits.cli import directions, match, sae, steer
    from emocircuits.cli.main import build_parser

    lines = []
    for path in [*DOCS.glob("*.md"), *(DOCS / "howto").glob("*.md")]:
        for block in re.findall(r"```console\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.S):
            lines += [
                (path.name, line[2:].split("#")[0].strip())
                for line in block.splitlines()
                if line.startswith("$ emocircuits")
            ]
    assert len(lines) > 20
    import shlex

    for name, line in lines:
        given = shlex.split(line)[1:]
        for group in (directions, sae, match, steer):
            given = group.rewrite(given)
        try:
            build_parser().parse_args(given)
        except SystemExit as error:
            pytest.fail(f"{name}: `{line}` does not parse ({error})")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_asserts(path, debug_run, monkeypatch):
    """In this process, which has paid for the imports; the documentation's build runs them in kernels of
    their own.
    """
    import matplotlib.pyplot as plt

    from emocircuits.behaviours import BEHAVIOURS

    plt.switch_backend("agg")
    monkeypatch.setenv("EMOCIRCUITS_PROFILE", "tiny")
    monkeypatch.setenv("EMOCIRCUITS_RUN", str(debug_run))
    text = path.read_text(encoding="utf-8")
    assert "\nassert " in text
    figures = len(plt.get_fignums())
    try:
        with BEHAVIOURS.temporarily():
            runpy.run_path(str(path))
        assert len(plt.get_fignums()) > figures, "the notebook drew nothing"
    finally:
        plt.close("all")


def test_there_are_five_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]
    index = (DOCS / "notebooks" / "index.md").read_text()
    assert all(path.stem in index for path in NOTEBOOKS)


def test_pages_name_no_address_on_the_network():
    """Neither script nor style nor font comes from elsewhere: the built pages would need a network."""
    for path in [
        *DOCS.glob("*.md"),
        *(DOCS / "_static").glob("*.css"),
        *DOCS.glob("howto/*.md"),
        DOCS / "conf.py",
    ]:
        assert not re.search(r"(src|href)=.?https?:|@import|url\(", path.read_text(encoding="utf-8")), (
            path.name
        )


def test_what_programs_read_links_to_pages_that_exist():
    """`llms.txt` lies at the root of the built site, so its links are those of the site."""
    links = re.findall(r"\]\((\S+?)\.html\)", (DOCS / "llms.txt").read_text(encoding="utf-8"))
    assert len(links) > 20
    made = {"_generated/command_line"}  # by the build
    assert not [link for link in links if link not in made and not list(DOCS.glob(f"{link}.*"))]


def test_paths_in_the_house_pages_exist():
    """A `path/` or `path.py` that CONTRIBUTING, AGENTS or the architecture names; `<name>` stands for any."""
    root = DOCS.parent
    for page in (root / "CONTRIBUTING.md", root / "AGENTS.md", DOCS / "architecture.md"):
        text = page.read_text(encoding="utf-8")
        paths = re.findall(r"`((?:emocircuits|tests|docs|saes|analyses)/[\w/.<>]*)`", text)
        assert paths, page.name
        assert not [path for path in paths if not list(root.glob(path.replace("<name>", "*")))], page.name
