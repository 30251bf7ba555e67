"""A stage depends on the source of the modules it imports: on a copy of the package that is edited."""

import importlib
import inspect
import shutil
from dataclasses import fields

import pytest

from emocircuits.provenance import PACKAGE
from emocircuits.runs import module_source, sources
from emocircuits.runs.module_source import module_file
from emocircuits.runs.sources import closure, registry_members
from emocircuits.stages import ORDER

CACHED = (module_file, registry_members, sources._files_without_code)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package that `source_hash` reads."""
    directory = tmp_path_factory.mktemp("copy") / "emocircuits"
    shutil.copytree(PACKAGE, directory, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PACKAGE", directory)
        patch.setattr(module_source, "PACKAGE", directory)
        for function in CACHED:
            function.cache_clear()
        yield directory, {name: sources.source_hash(f"emocircuits.stages.{name}") for name in ORDER}
    for function in CACHED:
        function.cache_clear()


@pytest.fixture
def copy(package):
    """Changes a file of the copy, says which stages that makes out of date, and undoes it."""
    (directory, before), changed = package, {}

    def change(path, more, old=None):
        changed[directory / path] = text = (directory / path).read_text(encoding="utf-8")
        assert old is None or old in text, f"{path} has no {old!r}"
        (directory / path).write_text(text.replace(old, more, 1) if old else text + more, encoding="utf-8")
        return {name for name in ORDER if sources.source_hash(f"emocircuits.stages.{name}") != before[name]}

    yield change
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")


MORE = "\nFURTHER = 1\n"


def test_a_comment_and_a_docstring_change_nothing(copy):
    assert copy("io/atomic.py", "\n# a comment\n") == set()
    assert copy("runs/run.py", '"""A single run:', '"""One run:') == set()


def test_what_everything_stands_on_redoes_everything(copy):
    assert copy("io/atomic.py", MORE) == set(ORDER)


@pytest.mark.parametrize(
    ("path", "more"), [("viewer/page.py", MORE), ("viewer/js/paint.js", "var further = 1;\n")]
)
def test_the_viewer_redoes_what_holds_its_pages(copy, path, more):
    assert copy(path, more) == {"export", "report"}


def test_circuits_leave_what_comes_before_them_fresh(copy):
    redone = copy("circuits/faithfulness.py", MORE)
    assert {"circuit", "evaluate"} <= redone
    assert not redone & {"plan", "collect", "directions", "sae", "match", "attribute", "steer", "export"}


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("stages/steer.py", {"steer"}),
        ("stages/figures.py", {"figures"}),
        ("report/summary.py", {"report"}),
        ("figures/steering.py", {"figures", "report"}),
        ("sae/training/train.py", {"sae"}),
        ("matching/omp.py", {"match"}),
        ("directions/contrast_pca.py", {"directions"}),
        ("cli/main.py", set()),
        ("runs/execute.py", set()),
    ],
)
def test_a_late_or_single_thing_redoes_only_what_uses_it(copy, path, stages):
    assert copy(path, MORE) == stages


def test_a_data_file_counts_for_who_reads_it(copy):
    redone = copy("behaviours/prompts/reward_hacking.planted.jsonl", "\n")
    assert "attribute" in redone and not redone & {"collect", "sae", "match", "figures", "export"}


def test_the_versions_of_libraries_count(monkeypatch):
    before = sources.source_hash("emocircuits.stages.collect")
    monkeypatch.setattr(sources.metadata, "version", lambda name: "0")
    assert sources.source_hash("emocircuits.stages.collect") != before


REGISTRIES = (
    "attribution.methods.METHODS",
    "behaviours.BEHAVIOURS",
    "directions.ESTIMATORS",
    "export.EXPORTERS",
    "figures.FIGURES",
    "interventions.ablate.ABLATIONS",
    "matching.MATCH_SCORES",
    "models.FAMILIES",
    "organism.corpus.KINDS",
    "sae.ARCHITECTURES",
    "activations.texts.TEXT_SOURCES",
)


@pytest.mark.parametrize("path", REGISTRIES)
def test_the_members_of_a_registry_are_found_without_running_it(path):
    """Every function that a card holds lies in a module that counts for readers of the registry."""
    module, _, name = path.rpartition(".")
    cards = getattr(importlib.import_module(f"emocircuits.{module}"), name)
    defined = next(iter(sources.resolve((f"emocircuits.{module}", name))))
    if name not in defined.registries:  # a module that only fills it
        defined = next(
            found for taken in defined.top.imports if taken[1] == name for found in sources.resolve(taken)
        )
    members = (defined.name, *registry_members(defined.name, name))
    known = {source.name for member in members for source in closure(member)[0]}
    for card in cards:
        for item in fields(card):
            value = inspect.unwrap(getattr(card, item.name)) if callable(getattr(card, item.name)) else None
            where = getattr(value, "__module__", "") or ""
            if where.startswith("emocircuits."):
                assert where in known, f"{path}: {card.name}.{item.name} of {where}"
