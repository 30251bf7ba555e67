"""What a stage really runs lies in the modules that it is said to depend on."""

import sys
import threading

import pytest
from families.family_world import SETTINGS

from emocircuits.provenance import PACKAGE
from emocircuits.runs import execute
from emocircuits.runs.recipe import recipe_from_dict
from emocircuits.runs.sources import closure
from emocircuits.stages import ORDER

MACHINERY = {
    PACKAGE / name
    for name in (
        "runs/execute.py",
        "runs/parts.py",
        "runs/sources.py",
        "runs/module_source.py",
        "runs/budget.py",
        "io/values.py",
        "keep.py",
        "ranks.py",  # which parts and progress ask
        "models/__init__.py",
    )
}


@pytest.mark.parametrize("ends", [("evaluate", "steer"), pytest.param(("report",), marks=pytest.mark.slow)])
def test_every_function_that_a_stage_calls_counts(tmp_path, monkeypatch, ends):
    real, outside = execute._timed, {}

    def timed(stage, run, manifest):
        called = set()

        def watch(frame, event, argument):
            if event == "call" and frame.f_code.co_name != "<module>":
                called.add(frame.f_code.co_filename)

        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            return real(stage, run, manifest)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            counts = {str(source.path) for source in closure(stage.work.__module__)[0]}
            counts |= {str(path) for path in MACHINERY}
            outside[stage.name] = {name for name in called if name.startswith(str(PACKAGE))} - counts

    monkeypatch.setattr(execute, "_timed", timed)
    recipe = recipe_from_dict({**SETTINGS, "model": "planted"})
    for end in ends:
        execute.run_pipeline(recipe, tmp_path / "run", until=end)
    assert outside == {name: set() for name in ORDER[: ORDER.index(ends[-1]) + 1]}
