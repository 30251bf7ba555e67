"""OMP_NUM_THREADS is the most threads a process uses, whatever a recipe says."""

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
