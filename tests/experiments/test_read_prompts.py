"""A killed call resumes with the next prompt."""

import json

import pytest
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.errors import UserError
from emocircuits.experiments.read_prompts import read_prompts
from emocircuits.models.tiny import TinyShape


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("long"), shape=TinyShape(n_ctx=4096, n_layers=2))
    return model, tiny_directions(model)


def test_a_killed_call_goes_on_with_the_next_prompt(world, tmp_path, monkeypatch):
    from emocircuits.experiments import read_prompts as module

    prompts = [(f"p{n}", "The doctor read the letter again and felt calm. " * (5 + n)) for n in range(3)]
    real, calls = module.long_readings, []

    def counted(model, directions, ids, *arguments, **options):
        calls.append(len(ids))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(model, directions, ids, *arguments, **options)

    monkeypatch.setattr(module, "long_readings", counted)
    with pytest.raises(KeyboardInterrupt):
        read_prompts(*world, prompts, ["sad"], tmp_path)
    paths = read_prompts(*world, prompts, ["sad"], tmp_path)
    assert len(calls) == 4  # the first prompt was not read again
    found = json.loads(paths[2].read_text())
    assert (
        found["id"] == "p2"
        and len(found["tokens"]) == len(found["readings"])
        and found["readings"][0] is None
    )
    with pytest.raises(UserError, match="'long' has .* tokens; expected at most the context of 4096"):
        read_prompts(*world, [("long", "doctor " * 9000)], ["sad"], tmp_path)
