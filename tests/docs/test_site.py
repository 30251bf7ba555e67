"""The documentation's own code: the command line's page is whole, notebooks run and assert."""

import re
import runpy
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("0[1-9]*.py"))  # 00: tests/e2e/test_twelve_lines.py


@pytest.fixture(scope="module")
def page_of():
    """The modules that make pages."""
    sys.path.insert(0, str(DOCS / "_ext"))
    import command_line

    yield command_line
    sys.path.remove(str(DOCS / "_ext"))


def test_the_command_lines_page_is_whole(page_of):
    from emocircuits.cli.table import verbs

    page = page_of.command_line_page()
    assert len(list(verbs())) > 25
    for verb in verbs():
        section = page_of.section(verb)
        assert section in page, verb.name
        assert all(f"| `{page_of.form(item)}` |" in section for item in verb.arguments), verb.name


def test_the_page_of_recipe_keys_is_whole(page_of):
    import recipe_page

    from emocircuits.cli.recipe import toml_value
    from emocircuits.runs.recipe import recipe_keys

    page = recipe_page.recipe_page(recipe_keys())
    for key in recipe_keys():
        line = next(line for line in page.splitlines() if line.startswith(f"| `{key.name}` |"))
        assert page_of.cell(key.about.meaning) in line and page_of.cell(toml_value(key.default)) in line


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


def test_there_are_seven_notebooks():
    every = sorted((DOCS / "notebooks").glob("*.py"))
    assert [path.name[:2] for path in every] == ["00", "01", "02", "03", "04", "05", "06"]
    index = (DOCS / "notebooks" / "index.md").read_text()
    assert all(path.stem in index for path in every)


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
