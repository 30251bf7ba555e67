"""OMP_NUM_THREADS is the most threads a process uses, whatever a recipe says; and a waiting thread lets go of
its core soon.
"""

import os
import subprocess
import sys

import pytest
import torch

from emocircuits.ranks import use_threads


@pytest.mark.parametrize(("variable", "expected"), [("", 2), ("1", 1), ("8", 2), ("many", 2)])
def test_the_environment_limits_threads(monkeypatch, variable, expected):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    try:
        use_threads(2)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch brings libgomp on Linux")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "5000"),
        ({"GOMP_SPINCOUNT": "70"}, "70"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000"),
    ],
)
def test_threads_that_wait_give_their_core_away(given, expected):
    """libgomp itself says what it read: the package sets it before torch is loaded, a user before both."""
    clean = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    shown = subprocess.run(
        [sys.executable, "-c", "import emocircuits.cli.main, torch"],
        env=clean | given | {"OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{expected}'" in shown.stderr
