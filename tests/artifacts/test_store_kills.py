"""SIGKILL at random moments and before every system call: the store goes on and ends with the same bytes."""

import json
import os
import sys
from pathlib import Path

from fixtures.waits import run_to_end

TESTS = Path(__file__).resolve().parents[1]


def test_sigkill_redoes_the_unfinished_shard_only_and_ends_in_the_same_bytes(tmp_path):
    command = [sys.executable, "-m", "artifacts.kill_driver", str(tmp_path), "0"]
    done = run_to_end(command, cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    assert sum(kills["random"]) >= 24 and kills["steps"] > 60
