"""Names, imports and arguments that do not exist, in every file, also where no test comes by (settings of the
type checker in pyproject.toml). The linter cannot say this: shapes in annotations look like undefined names.
"""

import sys
from pathlib import Path

from fixtures.waits import run_to_end

ROOT = Path(__file__).resolve().parents[2]


def test_every_name_that_is_used_exists():
    done = run_to_end([Path(sys.executable).with_name("ty"), "check", "--output-format", "concise"], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
