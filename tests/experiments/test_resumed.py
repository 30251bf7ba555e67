"""A push that does nothing is noticed."""

import pytest
from experiments.steering_world import run

from emocircuits.errors import Failure
from emocircuits.experiments import resumed
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("llama", tmp_path_factory.mktemp("llama"))))


def test_a_push_that_does_nothing_is_a_failure(model, monkeypatch):
    real = resumed.resume

    def unpushed(bridge, tokens, site, stream, **options):
        return real(bridge, tokens, site, resumed.stream_at(bridge, tokens, site), **options)

    monkeypatch.setattr(resumed, "resume", unpushed)
    with pytest.raises(Failure, match="changed nothing"):
        run(model)
