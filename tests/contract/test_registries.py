"""Every member of every registry keeps its kind's contract; an unknown name lists the known ones."""

import importlib
import sys

import pytest
from fixtures.waits import run_to_end

from emocircuits.errors import UserError
from emocircuits.registry import Card
from emocircuits.runs.module_source import module_file, read_source
from emocircuits.runs.sources import registry_members, resolve

REGISTRIES = {
    "models.family.FAMILIES": "model family",
    "behaviours.BEHAVIOURS": "behaviour",
    "organism.corpus.KINDS": "document kind",
    "export.EXPORTERS": "export format",
    "figures.FIGURES": "figure",
    "interventions.ablate.ABLATIONS": "ablation",
    "directions.estimators.ESTIMATORS": "direction estimator",
    "attribution.methods.METHODS": "attribution method",
    "matching.scores.MATCH_SCORES": "match score",
    "stages.STAGES": "stage",
    "activations.texts.TEXT_SOURCES": "material",
    "sae.ARCHITECTURES": "SAE architecture",
    "sae.loading.formats.FORMATS": "SAE format",
}


def registry(path):
    module, _, name = f"emocircuits.{path}".rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", REGISTRIES)
def test_a_registry_has_members_and_helps_with_unknown_names(path):
    members = registry(path)
    assert len(members) > 0
    first = members.names()[0]
    with pytest.raises(UserError) as caught:
        members.get(first + "x")
    assert f"did you mean '{first}'" in str(caught.value) and first in str(caught.value)


@pytest.mark.parametrize("path", REGISTRIES)
def test_every_card_says_what_it_is(path):
    for name, card in zip(registry(path).names(), registry(path), strict=True):
        assert isinstance(card, Card) and card.name == name, f"{path}: {name}"
        assert len(card.summary) > 10, f"{path}: {name} says nothing about itself"


FRESH = """
import importlib, os, sys
import sae_lens, transformer_lens
for path in sys.argv[1:]:
    if os.fork() == 0:
        module, _, name = f"emocircuits.{path}".rpartition(".")
        print(path, *getattr(importlib.import_module(module), name).names(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("path", [path for path in REGISTRIES if path != "stages.STAGES"])
def test_importing_a_registry_imports_every_module_that_adds_to_it(path):
    """As the imports at the top of the files say."""
    module, _, name = path.rpartition(".")
    (defined,) = resolve((f"emocircuits.{module}", name))
    owner = defined
    while name not in owner.registries:  # a module that only fills it
        (owner,) = next(resolve(wanted) for wanted in owner.top.imports if wanted[1] == name)
    assert set(registry_members(owner.name, name)) <= imported_with(defined.name)


def imported_with(module: str) -> set[str]:
    """The modules of the package that importing one imports."""
    seen, left = set(), [module]
    while left:
        name = left.pop()
        if name not in seen and module_file(name):
            seen.add(name)
            left += [name.rpartition(".")[0]]
            left += [
                part for wanted in read_source(name).top.imports for part in (wanted[0], ".".join(wanted))
            ]
    return seen


@pytest.mark.slow
def test_a_registry_is_full_once_it_is_imported():
    """Each in a process that has imported nothing else of the package."""
    command = [sys.executable, "-c", FRESH, *REGISTRIES]
    done = run_to_end(command)
    assert done.returncode == 0, done.stderr
    filled = {path: tuple(names) for path, *names in map(str.split, done.stdout.splitlines())}
    assert filled == {path: registry(path).names() for path in REGISTRIES}


def test_every_behaviour_has_prompts_of_both_splits_for_every_material():
    from emocircuits.behaviours import BEHAVIOURS
    from emocircuits.behaviours.prompt_pairs import read_pairs

    for behaviour in BEHAVIOURS:
        for material in behaviour.materials.values():
            if material.scenario:  # made for each tokenizer, see tests/behaviours/test_natural.py
                continue
            splits = {pair.split for pair in read_pairs(material)}
            assert splits == {"find", "score"}, f"{behaviour.name}/{material.name}"
            clean = [pair.clean for pair in read_pairs(material)]
            find = {pair.clean for pair in read_pairs(material, "find")}
            assert not find & {pair.clean for pair in read_pairs(material, "score")}, (
                f"{behaviour.name}/{material.name}"
            )
            assert len(clean) >= 24


def test_every_export_format_writes_a_circuit(debug_run, tmp_path):
    from emocircuits.artifacts.circuit import CircuitGraph
    from emocircuits.export import EXPORTERS

    graph = CircuitGraph.load(debug_run / "circuit_reward_hacking.json")
    for exporter in EXPORTERS:
        path = exporter.write(graph, tmp_path)
        assert path.stat().st_size > 100, exporter.name
        assert exporter.render(graph) == exporter.render(graph), f"{exporter.name} is not deterministic"


def test_every_stage_leaves_what_it_promises(debug_run):
    import json

    stages = json.loads((debug_run / "manifest.json").read_text())["stages"]
    for record in stages.values():
        for path in record["outputs"]:
            assert (debug_run / path).is_file()
