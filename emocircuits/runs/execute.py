"""Runs a recipe stage by stage in a run directory; what is fresh is skipped, what was cut off resumes."""

import fcntl
import resource
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from emocircuits.artifacts.manifest import RunManifest, StageRecord
from emocircuits.errors import UserError, unknown
from emocircuits.io.atomic import write_failure
from emocircuits.keep import always_make
from emocircuits.progress import say
from emocircuits.provenance import code_version, sha256_file, sha256_json
from emocircuits.ranks import alone, barrier, process_group, ranks
from emocircuits.runs.budget import budgeted
from emocircuits.runs.parts import Parts
from emocircuits.runs.recipe import Recipe, load_recipe
from emocircuits.runs.run import MANIFEST, Run
from emocircuits.runs.sources import source_hash
from emocircuits.runs.stage import Output, Stage, settings_of, stages


def run_pipeline(
    recipe: Recipe,
    directory: Path,
    *,
    start: str | None = None,
    only: str | None = None,
    until: str | None = None,
    trust_remote_code: bool = False,
    checks: bool = True,
) -> RunManifest:
    """Runs the stages of a recipe; under `torchrun` the ranks share the stages that can be shared.

    Args:
        recipe: the settings.
        directory: the run directory; made if absent.
        start: redo this stage and everything after it, fresh or not.
        only: run just this stage; the stages it needs must be fresh.
        until: run this stage and what it needs, and nothing else.
        trust_remote_code: let the model directory run its own code.
        checks: run the load-time checks of the model.

    Raises:
        UserError: an unknown stage, a directory that is not this model's run, a missing stage.
    """
    for name in (start, only, until):
        if name is not None:
            stages().get(name)
    wanted = set(stages().names()) if until is None else {until, *_ancestors(until)}
    with process_group(recipe.device) as me, locked(directory) if me.first else nullcontext():
        run = Run(directory, recipe, trust_remote_code=trust_remote_code, checks=checks)
        checked = wanted if only is None else {only}
        manifest = _by_the_first(run, lambda: _open_manifest(run, checked))
        forced = False
        for stage in stages():
            name = stage.name
            if name not in wanted:
                continue
            forced = forced or name in (start, only)
            key = stage_key(stage, run, manifest)
            fresh = key is not None and manifest.is_fresh(name, key, directory)
            if only is not None and name != only:
                if name in _ancestors(only) and not fresh:
                    raise UserError(
                        f"stage '{only}' needs stage '{name}', which is not done or not "
                        f"up to date in {directory}",
                        cure=f"emocircuits run --out {directory}",
                    )
                continue
            if fresh and not forced:
                say(f"{name:<10} up to date")
                continue
            manifest = _do(stage, run, manifest)
            if only is not None:
                break
    return manifest


def run_up_to(
    directory: str | Path,
    recipe: str | Path | Recipe | None = None,
    *,
    until: str = "report",
    trust_remote_code: bool = False,
) -> Run:
    """The run in a directory, done up to a stage; see `Run.make`."""
    directory = Path(directory)
    stages().get(until)
    if (directory / MANIFEST).exists():
        run = Run.open(directory, trust_remote_code=trust_remote_code)
        if until in run.manifest.stages:
            return run
        settings = run.recipe
    else:
        settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    run_pipeline(settings, directory, until=until, trust_remote_code=trust_remote_code)
    return Run.open(directory, trust_remote_code=trust_remote_code)


FRESH = "up to date"


def plan_lines(
    recipe: Recipe, directory: Path, *, start: str | None = None, trust_remote_code: bool = False
) -> list[tuple[str, str, str]]:
    """What `run` would do: (stage, state, what it does); writes nothing."""
    if start is not None:
        stages().get(start)
    manifest = _read_manifest(directory)
    run = Run(directory, recipe, trust_remote_code=trust_remote_code)
    check_settings(run, stages().names())
    lines, stale, forced = [], set(), False
    for stage in stages():
        name = stage.name
        forced = forced or name == start
        key = None if manifest is None or stale & set(stage.needs) else stage_key(stage, run, manifest)
        fresh = key is not None and manifest is not None and manifest.is_fresh(name, key, directory)
        if forced or not fresh:
            fresh = False
            stale.add(name)
        lines.append((name, FRESH if fresh else "to do", stage.summary))
    return lines


def check_settings(run: Run, names: Collection[str]) -> None:
    """Refuses what would fail in some stage, before anything is computed or written.

    Raises:
        UserError: a value that cannot work; names its key.
    """
    for stage in stages():
        if stage.name in names:
            stage.check(run)


def stage_key(stage: Stage, run: Run, manifest: RunManifest) -> str | None:
    """Hash of everything that shapes a stage's result; None while a stage it needs is not done."""
    if any(name not in manifest.stages for name in stage.needs):
        return None
    recipe = run.recipe
    return sha256_json(
        {
            "stage": stage.name,
            "settings": settings_of(stage, recipe),
            "model": run.model_hash,
            "seed": recipe.seed,
            "device": recipe.device,
            "dtype": recipe.dtype,
            "device_map": recipe.device_map,
            "memory_gb": recipe.memory_gb,
            "threads": recipe.threads,
            "code": source_hash(stage.work.__module__),
            "inputs": {name: manifest.stages[name].outputs for name in stage.needs},
        }
    )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the run directory for one process.

    Raises:
        UserError: another process works in it, or it holds something that is not a run.
        Failure: it cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file", expected="a directory for the run")
    if (
        directory.is_dir()
        and any(directory.iterdir())
        and not (directory / MANIFEST).exists()
        and not (directory / ".lock").exists()
    ):
        raise UserError(f"{directory} is not empty and holds no {MANIFEST}", cure="choose another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "w")  # noqa: SIM115 - closed below, after its own errors are told apart
    except OSError as error:
        raise write_failure(directory, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is running in {directory}", cure="wait for it or choose another --out"
            ) from error
        yield


def _open_manifest(run: Run, checked: set[str]) -> RunManifest:
    """The record of a run that is about to begin, once the settings of its stages were checked."""
    old = _read_manifest(run.directory)
    model = {"name": run.recipe.model, "content_hash": run.model_hash}
    if old is not None and old.model["content_hash"] != model["content_hash"]:
        raise UserError(
            f"{run.directory} holds a run of the model '{old.model['name']}'",
            expected=f"a run of '{model['name']}' or an empty directory",
            cure="choose another --out",
        )
    check_settings(run, checked)
    manifest = RunManifest(
        recipe=run.recipe.to_dict(),
        model=model,
        seed=run.recipe.seed,
        code_version=code_version(),
        stages=old.stages if old else {},
    )
    manifest.save(run.directory / MANIFEST)
    return manifest


def _read_manifest(directory: Path) -> RunManifest | None:
    return RunManifest.load(directory / MANIFEST) if (directory / MANIFEST).exists() else None


def _do(stage: Stage, run: Run, manifest: RunManifest) -> RunManifest:
    say(f"{stage.name:<10} {stage.summary}")
    manifest = _by_the_first(run, lambda: _without(stage, run, manifest))
    if not stage.shared:
        return _by_the_first(run, lambda: _recorded(stage, run, manifest, *_timed(stage, run, manifest)))
    output, seconds = _timed(stage, run, manifest)
    barrier()
    return _by_the_first(run, lambda: _recorded(stage, run, manifest, output, seconds))


def _without(stage: Stage, run: Run, manifest: RunManifest) -> RunManifest:
    """The manifest before the stage is done: what it wrote before does not count any more."""
    left = {name: record for name, record in manifest.stages.items() if name != stage.name}
    manifest = replace(manifest, stages=left)
    manifest.save(run.directory / MANIFEST)
    return manifest


def _by_the_first(run: Run, work: Callable[[], RunManifest]) -> RunManifest:
    """Work that leaves a manifest behind, done by the first rank while the others wait for it and read it."""
    manifest = None
    if ranks().first:
        with alone():
            manifest = work()
    barrier()
    return manifest or RunManifest.load(run.directory / MANIFEST)


def _timed(stage: Stage, run: Run, manifest: RunManifest) -> tuple[Output, float]:
    begin, parts = time.perf_counter(), Parts(run.directory, stage.name, _key(stage, run, manifest))
    run.keep = parts
    try:
        with budgeted(run, stage.name):
            output = stage.work(run)
    finally:
        run.keep = always_make
        run.forget()
    parts.clear()
    return output, time.perf_counter() - begin


def _key(stage: Stage, run: Run, manifest: RunManifest) -> str:
    key = stage_key(stage, run, manifest)
    if key is None:
        raise unknown("finished stage", stage.needs[0], manifest.stages)
    return key


def _recorded(stage: Stage, run: Run, manifest: RunManifest, output: Output, seconds: float) -> RunManifest:
    outputs = {path: sha256_file(run.directory / path) for path in sorted(output.paths)}
    key, warnings = _key(stage, run, manifest), tuple(output.warnings)
    record = StageRecord(key, outputs, round(seconds, 3), peak_rss_mb(), warnings)
    manifest = manifest.with_stage(stage.name, record)
    manifest.save(run.directory / MANIFEST)
    say(f"{stage.name:<10} done in {seconds:.1f} s")
    return manifest


def peak_rss_mb() -> float:
    """Largest resident memory so far of this process and of its largest finished child, MiB."""
    own, child = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round((own + child) / 1024, 1)


def _ancestors(name: str) -> set[str]:
    needs = set(stages().get(name).needs)
    return needs.union(*(_ancestors(need) for need in needs)) if needs else needs
