"""Settings for every test: checked shapes, one seed, few threads, no network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
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
    """A finished run of the debug recipe (read-only: copy it before changing anything)."""
    from emocircuits.cli.main import main

    directory = tmp_path_factory.mktemp("runs") / "debug"
    assert main(["run", str(ROOT / "analyses/recipes/debug.toml"), "--out", str(directory), "--quiet"]) == 0
    return directory
