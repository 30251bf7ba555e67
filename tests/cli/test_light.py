"""The command line starts fast and never imports a heavy library for help, doctor --quick or a mistake."""

import json
import sys

import pytest
from fixtures.waits import run_to_end

HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens", "matplotlib", "scipy", "pandas", "h5py")
PROBE = f"""
import sys
from emocircuits.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as error:
    code = error.code
loaded = [name for name in {HEAVY} if name in sys.modules]
print("LOADED", loaded, "CODE", code, "MODULES", len(sys.modules))
"""


def probe(*arguments):
    return run_to_end([sys.executable, "-c", PROBE, *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("sae", "--help"),
        ("recipe",),
        ("doctor", "--quick"),
        ("organism", "--help"),
        ("--version",),
        ("circuit", "runs/organism"),
    ],
)
def test_light_commands_load_nothing_heavy(arguments):
    done = probe(*arguments)
    code = 2 if arguments[0] == "circuit" else 0  # an old spelling
    assert f"LOADED [] CODE {code} " in done.stdout, done.stdout + done.stderr


def test_help_loads_few_modules():
    """What a start takes is what it loads; 205 modules are about a tenth of a second."""
    done = probe("--help")
    loaded = int(done.stdout.split("MODULES ")[1].split()[0])
    assert loaded < 300


def test_doctor_speaks_json():
    done = run_to_end([sys.executable, "-m", "emocircuits.cli.main", "doctor", "--quick", "--json"])
    checks = {check["check"]: check["ok"] for check in json.loads(done.stdout)}
    assert checks["torch"] and checks["python"]


POOLS = """
import os, sys
os.environ.pop("OPENBLAS_NUM_THREADS", None)
os.environ["OMP_NUM_THREADS"] = "2"
from emocircuits.cli import main as command
command.main = lambda: 0
try:
    command.entry()
except SystemExit:
    import numpy
    from threadpoolctl import threadpool_info
    pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
    print("THREADS", {pool["num_threads"] for pool in pools})
"""


def test_numpy_adds_no_threads_to_those_of_a_command():
    done = run_to_end([sys.executable, "-c", POOLS])
    assert "THREADS {1}" in done.stdout or "THREADS set()" in done.stdout, done.stdout + done.stderr
