"""The command line starts fast and never imports a heavy library for help, doctor --quick or a mistake."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens", "matplotlib", "scipy", "pandas", "h5py")
PROBE = f"""
import sys
from emocircuits.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as error:
    code = error.code
loaded = [name for name in {HEAVY} if name in sys.modules]
print("LOADED", loaded, "CODE", code)
"""


def probe(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("doctor", "--quick"), ("organism", "--help"), ("--version",)],
)
def test_light_commands_load_nothing_heavy(arguments):
    done = probe(*arguments)
    assert "LOADED [] CODE 0" in done.stdout or "LOADED [] CODE None" in done.stdout, (
        done.stdout + done.stderr
    )


def test_help_takes_well_under_a_second():
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "emocircuits.cli.main", "--help"], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 1.0


def test_every_subcommand_shows_an_example():
    from emocircuits.cli.main import build_parser

    parser = build_parser()
    commands = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    for name, command in commands.choices.items():
        if name != "organism":
            assert "example" in (command.epilog or ""), name


def test_stage_names_of_the_command_line_are_the_stages():
    from emocircuits.cli.run import STAGE_NAMES
    from emocircuits.stages import STAGES

    assert STAGES.names() == STAGE_NAMES


def test_doctor_speaks_json():
    done = subprocess.run(
        [sys.executable, "-m", "emocircuits.cli.main", "doctor", "--quick", "--json"],
        capture_output=True,
        text=True,
    )
    checks = {check["check"]: check["ok"] for check in json.loads(done.stdout)}
    assert checks["torch"] and checks["python"]
