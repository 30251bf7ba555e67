"""SIGKILL at random moments and before every system call: the store resumes and ends with the same bytes."""

import json
import os
import sys
from pathlib import Path

import pytest
from fixtures.waits import run_to_end

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("shard_rows", "prompts"), [(100, 24), pytest.param(200, 60, marks=pytest.mark.slow)]
)
def test_sigkill_redoes_the_unfinished_shard_only_and_ends_in_the_same_bytes(tmp_path, shard_rows, prompts):
    harvest = [str(shard_rows), str(prompts)]
    command = [sys.executable, "-m", "artifacts.kill_driver", str(tmp_path), "0", *harvest]
    done = run_to_end(command, cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    assert sum(kills["random"]) >= 24 and kills["steps"] > 60
