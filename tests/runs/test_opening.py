"""A command says how the model of a run is loaded."""

import pytest
import torch

from emocircuits.cli.parse import parse
from emocircuits.cli.table import verbs
from emocircuits.cli.verb import LOADING, TRUST, loading
from emocircuits.errors import UserError
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.runs.opening import open_run


def test_the_model_is_loaded_as_the_command_says(debug_run):
    own, other = open_run(debug_run), open_run(debug_run, Loading(dtype="bfloat16", checks=False))
    assert own.recipe.dtype == "float32" and len(own.model.checks) >= 9
    assert other.model.checks == ()
    kinds = [next(run.model.bridge.parameters()).dtype for run in (own, other)]
    assert kinds == [torch.float32, torch.bfloat16]
    assert own.model.content_hash == other.model.content_hash
    with pytest.raises(UserError, match="dtype"):
        open_run(debug_run, Loading(dtype="float8"))


def test_a_model_of_no_run(tmp_path):
    assert Loading(dtype="float64", checks=False).load("planted").checks == ()
    assert AS_IT_IS.load("planted").checks


def test_every_command_that_opens_a_model_takes_all_of_it():
    some = [verb for verb in verbs() if TRUST in verb.arguments and verb.name not in ("run", "stage")]
    assert len(some) > 12
    for verb in some:
        assert set(LOADING) <= set(verb.arguments), verb.name


def test_what_is_typed_becomes_it():
    (verb,) = [verb for verb in verbs() if verb.name == "steer check"]
    typed = ["runs/x", "--emotion", "calm", "--dtype", "bfloat16", "--no-checks"]
    assert loading(parse(verb, typed)) == Loading(dtype="bfloat16", checks=False)
    assert loading(parse(verb, typed[:3])) == AS_IT_IS
