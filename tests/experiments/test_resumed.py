"""A push that does nothing is noticed; the number of threads changes no bit."""

import numpy as np
import pytest
import torch
from experiments.steering_world import run

from emocircuits.errors import Failure
from emocircuits.experiments import resumed
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model
from emocircuits.passes.resume import stream_at


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


def test_a_push_that_does_nothing_is_a_failure(model, monkeypatch):
    real = resumed.resume

    def unpushed(bridge, tokens, site, stream, **options):
        return real(bridge, tokens, site, stream_at(bridge, tokens, site), **options)

    monkeypatch.setattr(resumed, "resume", unpushed)
    with pytest.raises(Failure, match="changed nothing"):
        run(model)


def test_threads_change_no_bit(model):
    before, tables = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            tables.append(run(model).values["cheating"])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*tables)
