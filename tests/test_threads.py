"""OMP_NUM_THREADS is the most threads a process uses, whatever a recipe says; and a waiting thread lets go of
its core soon.
"""

import os
import subprocess
import sys
import threading

import pytest
import torch

from emocircuits.threads import side_by_side, use_threads


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


def test_results_come_in_order_and_each_thread_has_a_worker_of_its_own():
    busy, barrier = [], threading.Barrier(3, timeout=20)

    def work(worker, item):
        assert torch.get_num_threads() == 1
        if item < 3:
            barrier.wait()  # three at the same time
        busy.append(worker)
        return worker, item * item

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = list(side_by_side(work, range(20), "abc"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [square for _, square in found] == [item * item for item in range(20)]
    assert {worker for worker, _ in found[:3]} == set("abc")


@pytest.mark.parametrize("workers", ["a", "ab"])
def test_items_are_taken_as_they_are_needed_and_an_error_ends_the_work(workers):
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def work(worker, item):
        if item == 5:
            raise ValueError("five")
        return item

    found, before = [], torch.get_num_threads()
    with pytest.raises(ValueError, match="five"):
        for result in side_by_side(work, items(), workers):
            found.append(result)
    assert found == [0, 1, 2, 3, 4] and len(taken) < 20
    assert torch.get_num_threads() == before
