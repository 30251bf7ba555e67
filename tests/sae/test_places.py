"""An SAE is opened at the place that its own configuration, or the names of its folders, say it reads, and
refused at any other.
"""

import json

import huggingface_hub
import pytest
import torch
from sae.foreign_files import (
    D_IN,
    Weights,
    write_gemma_scope,
    write_gemma_scope_2,
    write_sae_lens,
    write_temporal,
    write_transcoder,
)

from emocircuits.errors import UserError
from emocircuits.sae.loading.load import load_saes

SITE = "blocks.12.hook_resid_post"


@pytest.mark.parametrize(
    ("hook", "is_site"),
    [
        ("blocks.12.hook_resid_post", True),
        ("blocks.13.hook_resid_pre", True),
        ("blocks.12.hook_out", True),
        ("model.layers.12", True),
        ("transformer.h.12", True),
        ("gpt_neox.layers.12", True),
        ("model.language_model.layers.12.output", True),
        ("layers.12", True),
        ("model.layers.13.input", True),
        ("blocks.12.hook_resid_mid", False),
        ("blocks.12.hook_mlp_out", False),
        ("blocks.12.hook_attn_out", False),
        ("blocks.12.attn.hook_z", False),
        ("blocks.11.hook_resid_post", False),
        ("model.layers.12.mlp", False),
        ("model.layers.12.self_attn.o_proj.input", False),
        ("model.layers.12.post_attention_layernorm", False),
        ("blocks.0.hook_resid_pre", False),
        ("hook_embed", False),
    ],
)
def test_the_hook_of_the_configuration_is_the_site_or_it_is_refused(tmp_path, hook, is_site):
    write_sae_lens(tmp_path, Weights.random(), hook)
    if is_site:
        assert load_saes({12: tmp_path})[SITE].cfg.metadata.hook_name == SITE
        assert list(load_saes(tmp_path)) == [SITE]
        return
    with pytest.raises(UserError, match=f"was trained on {hook}; expected {SITE}"):
        load_saes({12: tmp_path})
    if hook.endswith("resid_post"):
        assert list(load_saes(tmp_path)) == [hook]
        return
    with pytest.raises(
        UserError, match=f"were trained on {hook}; expected the residual stream after a block"
    ):
        load_saes(tmp_path)


@pytest.mark.parametrize(
    ("release", "sae_id", "says"),
    [
        ("gemma-scope-2-1b-it-mlp", "layer_13_width_16k_l0_big", "blocks.13.hook_mlp_out"),
        ("gemma-scope-2-1b-it-att", "layer_13_width_16k_l0_big", "blocks.13.attn.hook_z"),
        ("gemma-scope-2-1b-it-transcoders", "transcoder/layer_13_width_16k_l0_big", "a transcoder"),
        ("gemma-scope-2b-pt-transcoders", "layer_13/width_16k/average_l0_8", "a transcoder"),
        ("mwhanna-qwen3-4b-transcoders", "layer_13", "a transcoder"),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer", "layer_13", "a transcoder"),
        ("llama_scope_lxm_8x", "l13m_8x", "blocks.13.hook_mlp_out"),
        ("llama_scope_lxa_8x", "l13a_8x", "blocks.13.hook_attn_out"),
        ("gpt2-small-hook-z-kk", "blocks.5.hook_z", "blocks.5.hook_z"),
        ("gpt2-small-resid-mid-v5-32k", "blocks.5.hook_resid_mid", "blocks.5.hook_resid_mid"),
        ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", "hook_embed"),
        ("gemma-scope-2-1b-it-res", "layer_17_width_16k_l0_big", "blocks.17.hook_resid_post"),
    ],
)
def test_an_sae_of_another_place_is_refused_before_anything_is_fetched(release, sae_id, says, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", None)
    with pytest.raises(
        UserError, match=f"was trained on .*{says}.*; expected blocks.13.hook_resid_post"
    ) as caught:
        load_saes({13: f"{release}:{sae_id}"})
    assert "\n" not in str(caught.value)


def test_transcoders_and_saes_of_whole_texts_in_files_are_refused(tmp_path):
    file = write_transcoder(tmp_path, 12)
    with pytest.raises(
        UserError, match="was trained on .*a transcoder to blocks.12.hook_mlp_out.*take an SAE of that site"
    ):
        load_saes({12: file})
    (tmp_path / "layer_12" / "temporal").mkdir(parents=True)
    write_temporal(tmp_path / "layer_12" / "temporal")
    with pytest.raises(UserError, match="reads a text as a whole"):
        load_saes({12: tmp_path / "layer_12" / "temporal"})
    folder = tmp_path / "gemma-scope-2-1b-it" / "transcoder" / "layer_12_width_16k_l0_small"
    folder.mkdir(parents=True)
    write_gemma_scope_2(folder, Weights.random(), SITE)
    with pytest.raises(UserError, match="a transcoder to blocks.12.hook_mlp_out"):
        load_saes({12: folder})


def test_a_file_that_belongs_to_several_names_them(tmp_path):
    for layer in (3, 12):
        write_transcoder(tmp_path, layer)
    with pytest.raises(
        UserError, match=f"has 0 SAEs of {SITE}; expected one; name one of .*layer_12.safetensors"
    ):
        load_saes({12: tmp_path / "config.yaml"})


def test_the_names_of_folders_say_what_the_files_of_gemma_scope_do_not(tmp_path):
    x, weights = torch.randn(20, D_IN), Weights.random()

    def at(name):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        return folder, write_gemma_scope(folder, weights, SITE)

    folder, formula = at("gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82")
    assert (
        list(load_saes(folder)) == [SITE] and load_saes(folder)[SITE].cfg.metadata.model_name == "gemma-2-2b"
    )
    torch.testing.assert_close(load_saes(folder)[SITE](x), formula(x), rtol=1e-4, atol=1e-5)
    for other, says in (
        ("gemma-scope-9b-pt-mlp/layer_12/width_16k/average_l0_82", "blocks.12.hook_mlp_out"),
        ("gemma-scope-9b-pt-att/layer_12/width_16k/average_l0_82", "blocks.12.attn.hook_z"),
        ("gemma-scope-2b-pt-transcoders/layer_12/width_16k/average_l0_82", "a transcoder"),
    ):
        with pytest.raises(UserError, match=says):
            load_saes({12: at(other)[0]})
    # a folder of another name says nothing: it is taken at the layer's word, and by layer only
    folder, formula = at("research/mlp of ours")
    torch.testing.assert_close(
        load_saes({3: folder})["blocks.3.hook_resid_post"](x), formula(x), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(UserError, match="does not say which layer it reads; name it: layers="):
        load_saes(folder)


def test_settings_and_folders_that_contradict_each_other(tmp_path):
    """Gemma Scope 2: sae-lens goes by the folder's name; the settings are the SAE's own."""
    folder = tmp_path / "gemma-scope-2-1b-it" / "resid_post" / "layer_12_width_16k_l0_small"
    folder.mkdir(parents=True)
    formula, x = write_gemma_scope_2(folder, Weights.random(), SITE), torch.randn(20, D_IN)
    torch.testing.assert_close(load_saes({12: folder})[SITE](x), formula(x), rtol=1e-4, atol=1e-5)
    renamed = folder.rename(tmp_path / "mine")
    assert list(load_saes(renamed)) == [SITE]
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = json.loads((renamed / "config.json").read_text())
    settings["hf_hook_point_in"] = "model.layers.13.output"
    (renamed / "config.json").write_text(json.dumps(settings))
    renamed.rename(folder)
    with pytest.raises(UserError, match="was trained on blocks.13.hook_resid_post; expected blocks.12"):
        load_saes({12: folder})
