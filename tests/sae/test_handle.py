"""Opening SAEs: what fits loads, everything else is one clear error."""

import json
from contextlib import suppress

import pytest
import torch
from sae_lens import SAE, StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import load_file, save_file

from emocircuits.errors import UserError
from emocircuits.sae import load_sae

SITE = "blocks.1.hook_resid_post"


@pytest.fixture
def pair(tmp_path):
    sae = StandardSAE(
        StandardSAEConfig(
            d_in=6, d_sae=12, metadata=SAEMetadata(hook_name=SITE, model_name="m", model_hash="a" * 64)
        )
    )
    sae.save_model(tmp_path / "sae")
    return tmp_path / "sae"


def edit(pair, **changes):
    config = json.loads((pair / "cfg.json").read_text())
    config.update(changes)
    (pair / "cfg.json").write_text(json.dumps(config))


def test_loads_with_equal_outputs_and_no_gradients(pair):
    sae, plain = load_sae(pair, site=SITE, d_in=6, model_hash="a" * 64), SAE.load_from_disk(pair)
    x = torch.randn(5, 6)
    assert (
        torch.equal(sae(x), plain(x))
        and not any(p.requires_grad for p in sae.parameters())
        and not sae.training
    )


def test_what_does_not_fit_is_refused(pair, tmp_path):
    for arguments, text in (
        ({"site": "blocks.2.hook_resid_post"}, "was trained on blocks.1.hook_resid_post"),
        ({"d_in": 8}, "has d_in 6; expected the model's d_model 8"),
        ({"model_hash": "b" * 64}, "belongs to another model"),
    ):
        with pytest.raises(UserError, match=text):
            load_sae(pair, **arguments)
    with pytest.raises(UserError, match="is no SAE: cfg.json and sae_weights.safetensors missing"):
        load_sae(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"architecture": "os.system"}, "unknown SAE architecture 'os.system'"),
        ({"architecture": None}, "unknown SAE architecture"),
        ({"d_in": -1}, "d_in = -1"),
        ({"d_sae": 1 << 40}, "d_sae = 1099511627776"),
        ({"d_in": True}, "d_in = True"),
        ({"d_sae": "12"}, "d_sae = '12'"),
        ({"d_sae": 13}, "has W_dec of shape"),
        ({"architecture": "topk", "k": 13}, "k = 13; expected a whole number from 1 to d_sae = 12"),
        ({"architecture": "topk", "k": "3"}, "k = '3'"),
        ({"architecture": "topk", "k": -1}, "k = -1"),
        ({"architecture": "gated"}, "b_gate|cannot load"),
        ({"metadata": [1]}, "metadata that is no table"),
        ({"normalize_activations": "nonsense"}, "sae-lens cannot load|holds"),
        ({"metadata": {"weights_sha256": "0" * 64}}, "damaged or exchanged"),
    ],
)
def test_hostile_configurations(pair, change, text):
    edit(pair, **change)
    if "normalize_activations" in change:
        with suppress(UserError):
            load_sae(pair)
        return
    with pytest.raises(UserError, match=text):
        load_sae(pair)


def test_a_device_that_is_not_there_does_not_matter(pair):
    edit(pair, device="cuda:7", dtype="bfloat16")
    sae = load_sae(pair)
    assert sae.W_dec.device.type == "cpu" and sae.W_dec.dtype == torch.float32 and sae.cfg.device == "cpu"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not JSON"),
        (b"[1]", "holds no table"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * 2_000_000, "has 2000000 bytes"),
    ],
)
def test_damaged_configurations(pair, content, text):
    (pair / "cfg.json").write_bytes(content)
    with pytest.raises(UserError, match=text):
        load_sae(pair)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b"pickle" * 100])
def test_damaged_weights(pair, content):
    (pair / "sae_weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is no safetensors file"):
        load_sae(pair)


def test_truncated_missing_and_nan_weights(pair):
    path = pair / "sae_weights.safetensors"
    whole, weights = path.read_bytes(), load_file(path)
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="sae-lens cannot load"):
        load_sae(pair)
    save_file({name: value for name, value in weights.items() if name != "b_enc"}, path)
    with pytest.raises(UserError, match="cannot load|NaN|b_enc"):
        load_sae(pair)
    weights["W_enc"][0, 0] = float("nan")
    save_file(weights, path)
    with pytest.raises(UserError, match="holds NaN or infinity in W_enc"):
        load_sae(pair)
