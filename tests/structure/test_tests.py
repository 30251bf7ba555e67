"""The tests' own house: folders are rooms of the library or kinds of test, and no test reads a clock."""

import re
from pathlib import Path

from structure.rows import ROWS

TESTS = Path(__file__).resolve().parents[1]
KINDS = {
    "bars", "benchmarks", "browser", "contract", "docs", "e2e", "families", "fixtures", "oracle", "planted",
    "structure", "typing",
}  # fmt: skip
CLOCK = re.compile(r"\b(perf_counter|process_time|time\.monotonic|time\.time)\(")


def test_every_folder_is_a_room_or_a_kind_of_test():
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/*.py")}
    assert folders <= KINDS | {room for rooms in ROWS for room in rooms}


def test_no_test_reads_a_clock():
    """How long things take is for the commands of `tests/benchmarks`; waits are in `fixtures.waits`."""
    tests = [path for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    assert len(tests) > 100
    assert not [path.name for path in tests if CLOCK.search(path.read_text(encoding="utf-8"))]
