"""Every worked example of the documentation does what its page says, on a finished run; registries are left
as they were.
"""

import importlib
import runpy
from contextlib import ExitStack
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("extend_*.py"))
REGISTRIES = (
    "models.family.FAMILIES",
    "behaviours.BEHAVIOURS",
    "export.EXPORTERS",
    "figures.FIGURES",
    "interventions.ablate.ABLATIONS",
    "directions.ESTIMATORS",
    "attribution.methods.METHODS",
    "matching.MATCH_SCORES",
    "activations.texts.TEXT_SOURCES",
    "sae.ARCHITECTURES",
)


@pytest.fixture
def registries():
    """Forgets what an example adds."""
    opened = []
    with ExitStack() as stack:
        for path in REGISTRIES:
            module, _, name = path.rpartition(".")
            opened.append(getattr(importlib.import_module(f"emocircuits.{module}"), name))
            stack.enter_context(opened[-1].temporarily())
        yield opened


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_works(path, debug_run, registries):
    sizes = [len(one) for one in registries]
    made = runpy.run_path(str(path))
    assert sum(len(one) for one in registries) == sum(sizes) + 1
    made["example"](debug_run)


def test_own_behaviour(debug_run, registries, tmp_path):
    kept, change = runpy.run_path(str(DOCS / "examples" / "own_behaviour.py"))["main"](
        debug_run, tmp_path / "money.html"
    )
    assert change > 1
    assert 0.5 < kept < 1.5
    assert "money_trouble" in (tmp_path / "money.html").read_text()


def test_every_extension_point_has_an_example():
    page = (DOCS / "extending.md").read_text()
    assert [path.name for path in EXAMPLES if f"examples/{path.name}" not in page] == []
