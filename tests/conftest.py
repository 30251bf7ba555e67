"""Settings for every test: checked shapes, one seed, few threads, no network."""

import gc
import os
import tempfile

gc.set_threshold(50_000, 20, 20)  # as the command does
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("EMOCIRCUITS_CACHE", os.path.join(tempfile.gettempdir(), "emocircuits-tests"))
os.environ.setdefault("OMP_NUM_THREADS", "2")
if "PYTEST_XDIST_WORKER" in os.environ:
    # side by side, threads that wait for a core make every small operation wait
    os.environ["OMP_NUM_THREADS"] = "1"

from jaxtyping import install_import_hook

install_import_hook("emocircuits", "shape_checks.checked")

import random
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# a busy machine is no failure of an example
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(autouse=True)
def seeded():
    """One seed for every test."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def real_model(name: str) -> Path:
    """Directory of a small pretrained model; skips where the folder is absent."""
    path = SHARED / "models" / name
    if not path.is_dir():
        pytest.skip(f"the pretrained model {name} is not beside the project (looked in ../shared/models)")
    return path


@pytest.fixture(scope="session")
def debug_run(tmp_path_factory) -> Path:
    """A finished run of the debug recipe, the same for all workers (read-only: copy it before changing
    anything).
    """
    from emocircuits.cli.main import main

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    directory, finished = shared / "debug_run", shared / "debug_run.finished"
    with FileLock(shared / "debug_run.lock", timeout=300):
        if not finished.exists():
            recipe = str(ROOT / "analyses/recipes/debug.toml")
            assert main(["run", recipe, "--out", str(directory), "--quiet"]) == 0
            finished.touch()
    return directory
