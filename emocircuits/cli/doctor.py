"""`emocircuits doctor`: what is installed, what the machine has, what will run."""

import argparse
import json
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from emocircuits import __version__
from emocircuits.cli.verb import JSON, LOADING, TEXT, Verb, loading, option, switch

REQUIRED = (
    "torch",
    "transformer-lens",
    "sae-lens",
    "transformers",
    "circuitsvis",
    "networkx",
    "h5py",
    "matplotlib",
    "scipy",
    "pandas",
)
TESTED = {"torch": "2.13", "transformer-lens": "3.9", "sae-lens": "6.54"}
NEEDED_DISK_GB, NEEDED_MEMORY_GB = 4, 4


def doctor(arguments: argparse.Namespace) -> int:
    """Prints a table of checks; exit code 1 when something needed is missing."""
    if arguments.model or arguments.recipe or arguments.profile:
        return _for_recipe(arguments)
    checks = quick_checks()
    if not arguments.quick:
        checks += deep_checks()
    checks += demo_parts(checks)
    if arguments.json:
        print(json.dumps([{"check": name, "found": found, "ok": ok} for name, found, ok in checks]))
    else:
        for name, found, ok in checks:
            print(f"{'ok ' if ok else 'NO '} {name:<18} {found}")
    return 0 if all(ok for _, _, ok in checks) else 1


def _for_recipe(arguments: argparse.Namespace) -> int:
    """Whether a run of this recipe on this model fits into memory and disk, and how long it takes; exit code
    1 where it does not fit.
    """
    from dataclasses import replace

    import psutil

    from emocircuits.cli.cost import print_stages
    from emocircuits.runs.recipe import load_recipe
    from emocircuits.studies.forecast import forecast_for

    recipe = load_recipe(arguments.recipe, profile=arguments.profile)
    recipe = recipe if arguments.model is None else replace(recipe, model=arguments.model)
    model = loading(arguments).load(recipe.model)
    rows = forecast_for(model, recipe)
    whole = rows[-1]
    memory = psutil.virtual_memory().available / 2**30
    disk = shutil.disk_usage(os.getcwd()).free / 2**30
    checks = [(f"check {check.name}", check.detail, check.passed) for check in model.checks]
    checks += [
        ("memory", f"needs {whole['memory_gb']:.1f} of {memory:.1f} GiB", whole["memory_gb"] < memory),
        ("disk", f"needs {whole['disk_gb']:.1f} of {disk:.1f} GiB", whole["disk_gb"] < disk),
    ]
    if arguments.json:
        found = [{"check": name, "found": found, "ok": ok} for name, found, ok in checks]
        print(json.dumps({"checks": found, "stages": rows}))
    else:
        for name, found, ok in checks:
            print(f"{'ok ' if ok else 'NO '} {name:<18} {found}")
        print_stages(rows)
    return 0 if all(ok for _, _, ok in checks) else 1


def quick_checks() -> list[tuple[str, str, bool]]:
    """(what, found, ok) without importing any heavy library."""
    checks = [
        ("emocircuits", __version__, True),
        ("python", platform.python_version(), sys.version_info >= (3, 11)),
    ]
    for name in REQUIRED:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            checks.append((name, "missing: pip install emocircuits", False))
            continue
        tested = TESTED.get(name)
        checks.append(
            (
                name,
                version
                + ("" if tested is None or version.startswith(tested) else f" (tested with {tested})"),
                True,
            )
        )
    weights = files("emocircuits") / "organism" / "weights" / "model.safetensors"
    checks.append(
        (
            "organism weights",
            "present" if weights.is_file() else "missing: emocircuits organism train",
            weights.is_file(),
        )
    )
    free = shutil.disk_usage(os.getcwd()).free / 2**30
    checks.append(
        ("free disk", f"{free:.1f} GiB (the demo writes about {NEEDED_DISK_GB})", free > NEEDED_DISK_GB)
    )
    shipped = shipped_saes()
    checks.append(
        ("SAEs of the organism", shipped or "none: the demo trains its own (about ten minutes more)", True)
    )
    offline = os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")
    checks.append(
        (
            "Hugging Face hub",
            "off (HF_HUB_OFFLINE): models and SAEs from directories and the cache only"
            if offline
            else "asked for ids that are not in the cache",
            True,
        )
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    checks.append(("chromium", chromium or "not found (only browser tests need it)", True))
    return checks


def shipped_saes() -> str:
    """Names of the SAEs in the registry that ships with the package; "" where there is none."""
    package = Path(__file__).parents[1]
    for path in (package / "_saes" / "registry.toml", package.parent / "saes" / "registry.toml"):
        if path.is_file():
            entries = tomllib.loads(path.read_text(encoding="utf-8")).get("sae", [])
            return ", ".join(dict.fromkeys(str(entry["name"]) for entry in entries))
    return ""


def demo_parts(checks: Sequence[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
    """Which parts of the demo will run, from what was found."""
    failed = {name for name, _, ok in checks if not ok}
    needs = {
        "run": (
            "torch",
            "transformer-lens",
            "sae-lens",
            "transformers",
            "h5py",
            "organism weights",
            "free disk",
            "free memory",
        ),
        "figures and report": ("matplotlib", "pandas", "scipy"),
        "notebook views": ("circuitsvis",),
        "graph exports": ("networkx",),
    }
    return [
        (
            f"demo: {part}",
            "will run"
            if not failed & set(names)
            else f"will not run: {', '.join(sorted(failed & set(names)))}",
            not failed & set(names),
        )
        for part, names in needs.items()
    ]


def deep_checks() -> list[tuple[str, str, bool]]:
    """Checks that import torch and load the organism."""
    import psutil
    import torch

    from emocircuits.models import load_model

    memory = psutil.virtual_memory().available / 2**30
    devices = ["cpu"]
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        devices.append(
            f"cuda:{i} {torch.cuda.get_device_name(i)} ({free / 2**30:.0f} of {total / 2**30:.0f} GiB free)"
        )
    devices += ["mps"] if torch.backends.mps.is_available() else []
    checks = [
        (
            "free memory",
            f"{memory:.1f} GiB (the demo needs about {NEEDED_MEMORY_GB})",
            memory > NEEDED_MEMORY_GB,
        ),
        ("devices", ", ".join(devices), True),
        ("threads", str(torch.get_num_threads()), True),
        (
            "several processes",
            "gloo" + (" and NCCL" if torch.distributed.is_nccl_available() else "")
            if torch.distributed.is_available()
            else "this torch has no distributed package: one process only",
            True,
        ),
    ]
    model = load_model("organism")
    checks += [(f"check {check.name}", check.detail, check.passed) for check in model.checks]
    return checks


DOCTOR = Verb(
    "doctor",
    "what is installed and what will run",
    doctor,
    (
        switch("--quick", "only what needs no heavy import"),
        option("--model", "whether a run on this model fits, and how long it takes", value="MODEL"),
        option("--recipe", "of that run: a TOML file or an embedded recipe", TEXT),
        option("--profile", "of that run: quick, standard or full", TEXT),
        *LOADING,
        JSON,
    ),
    ("emocircuits doctor --quick", "emocircuits doctor --model smollm2-135m --profile quick"),
    "The exit code is 1 when something that is needed is missing.",
)
