"""Settings in a config.json that would be ignored are refused, or told where no model computes with them."""

import json
import shutil

import pytest

from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.tiny import write_tiny_model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_tiny_model("llama", tmp_path_factory.mktemp("good"))


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


def refused(directory, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(directory), **arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("setting", "value"), [("num_local_experts", 8), ("quantization_config", {"bits": 4}), ("clip_qkv", 8.0)]
)
def test_settings_that_would_be_ignored_are_refused(copy, setting, value):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {setting: value}))
    text = refused(copy)
    assert setting in text and "does not know" in text


def test_settings_that_nothing_was_tested_with_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    assert "is_encoder_decoder = True" in refused(copy)


def test_settings_without_effect_are_no_obstacle(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"pretraining_tp": 2, "unsloth_version": "1", "some_flag": False})
    )
    assert load_model(str(copy)).card.name == "llama"


def test_names_that_no_one_knows_are_told(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"made_up_index": 3, "boi_token_index": 255999}))
    with pytest.warns(UserWarning, match="sets made_up_index, boi_token_index, which nothing here knows"):
        assert load_model(str(copy)).card.name == "llama"


def test_names_that_other_families_compute_with_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"attn_logit_softcapping": 50.0}))
    assert "attn_logit_softcapping" in refused(copy)
