"""Of a model of texts and images the language model is loaded alone, and is what the whole is on texts."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.models.files import check_directory, language_config, sizes_in
from emocircuits.models.tiny import write_tiny_model

EYES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
EYES |= {"image_size": 28, "patch_size": 14}
# the names of google/gemma-3-12b-it, with small values: what is not here is the default
PUBLISHED = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 4,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 7,
        "num_key_value_heads": 2,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 8,
        "head_dim": 8,
        "vocab_size": 400,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {**EYES, "model_type": "siglip_vision_model", "vision_use_head": False},
}


def write_whole(folder, family, settings):
    """A random model of texts and images with a tokenizer, and its config.json as given."""
    write_tiny_model(family, folder)
    (folder / "config.json").write_text(json.dumps(settings))
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    whole = AutoModelForImageTextToText.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5.0)
    whole.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    return whole


def with_inside(outer, family, folder):
    """A configuration of a model of texts and images around a tiny language model of a family."""
    write_tiny_model(family, folder)
    text = json.loads((folder / "config.json").read_text())
    return {"model_type": outer, "text_config": text, "vision_config": EYES, "pad_token_id": 2}


def set_text(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= settings
    (folder / "config.json").write_text(json.dumps(config))


@torch.no_grad()
def assert_same(model, whole):
    tokens = torch.randint(3, 200, (2, 13))
    torch.testing.assert_close(model.bridge(tokens), whole(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("error:.*nothing here knows")
def test_gemma_3_as_it_is_published(tmp_path):
    whole = write_whole(tmp_path, "gemma3", PUBLISHED)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "language_model.model.layers.0.self_attn.q_norm.weight" in tensors
    model = load_model(str(tmp_path))
    assert model.checks and all(check.passed for check in model.checks)
    assert (model.card.name, model.n_layers, model.d_model, model.d_vocab) == ("gemma3", 7, 48, 400)
    assert sizes_in(check_directory(tmp_path, trust_remote_code=False)) == (7, 48)
    assert type(model.bridge.original_model) is transformers.Gemma3ForCausalLM
    # the embedding is the head too, and what sees is not here
    assert model.n_params == sum(one.numel() for one in whole.model.language_model.parameters())
    assert_same(model, whole)


def test_tensors_under_their_newer_names(tmp_path):
    whole = write_whole(tmp_path, "gemma3", PUBLISHED)
    path = tmp_path / "model.safetensors"
    tensors = {
        name.replace("language_model.model.", "model.language_model."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, {"format": "pt"})
    assert_same(load_model(str(tmp_path), checks=False), whole)


@pytest.mark.parametrize("tied", [True, False])
def test_the_whole_says_whether_the_head_is_the_embedding(tmp_path, tied):
    whole = write_whole(tmp_path, "gemma3", PUBLISHED | {"tie_word_embeddings": tied})
    names = load_file(tmp_path / "model.safetensors")
    assert any("lm_head" in name for name in names) is not tied
    set_text(tmp_path, tie_word_embeddings=not tied)
    assert_same(load_model(str(tmp_path), checks=False), whole)


@pytest.mark.parametrize(
    ("outer", "family"),
    [("llava", "llama"), ("mistral3", "mistral"), ("internvl", "qwen3"), ("smolvlm", "llama")],
)
def test_others_with_a_language_model_inside(tmp_path, outer, family):
    whole = write_whole(tmp_path, family, with_inside(outer, family, tmp_path))
    model = load_model(str(tmp_path))
    assert model.card.name == family
    assert_same(model, whole)


def test_a_whole_that_changes_its_language_model_is_refused(tmp_path):
    write_whole(tmp_path, "gemma", with_inside("paligemma", "gemma", tmp_path))
    with pytest.raises(UserError, match="use_bidirectional_attention = True"):
        load_model(str(tmp_path))


def test_settings_of_the_text_are_checked_as_ever(tmp_path):
    write_whole(tmp_path, "gemma3", PUBLISHED)
    set_text(tmp_path, made_up_index=3)
    with pytest.warns(UserWarning, match="sets made_up_index, which nothing here knows"):
        load_model(str(tmp_path), checks=False)
    set_text(tmp_path, clip_qkv=8.0)
    with pytest.raises(UserError, match=r"clip_qkv = 8\.0, which the family gemma3 does not know"):
        load_model(str(tmp_path))


def test_what_stands_beside_the_text():
    """Settings of the whole are its own business; what it does not know is looked at."""
    found = language_config(PUBLISHED | {"quantization_config": {"bits": 4}})
    beside = {"quantization_config": {"bits": 4}, "torch_dtype": "bfloat16", "eos_token_id": [1, 106]}
    assert found == PUBLISHED["text_config"] | beside
    for other in (
        PUBLISHED | {"auto_map": {"AutoModel": "own.Model"}},
        PUBLISHED | {"model_type": "made_up"},
        PUBLISHED | {"text_config": {"model_type": "qwen2_vl_text"}},
    ):
        assert language_config(other) is other
