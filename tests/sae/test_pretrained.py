"""The same SAE in every known format comes out as the same SAE; what does not belong is refused with its
causes.
"""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures.planted_store import SITES, planted_store
from safetensors.torch import save_file

from emocircuits.errors import UserError
from emocircuits.sae import SAESettings, held_out_rows, load_sae, train_saes
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.sae.loading.formats import FORMATS, read_sae
from emocircuits.sae.loading.pretrained import (
    Owner,
    PretrainedSource,
    adopt,
    check_measured,
    find_pretrained,
    neuronpedia_url,
    open_pretrained,
    parse_pretrained,
)

SITE = SITES[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two SAEs trained by us, held-out activations, and a directory for files."""
    root = tmp_path_factory.mktemp("pretrained")
    store = planted_store(root / "a.h5", n_prompts=120)
    for name in ("topk", "batchtopk"):
        train_saes(
            store,
            root / name,
            SAESettings(architecture=name, expansion=4, k=4, training_rows=40_000, batch_size=250, lr=1e-2),
            layers=[SITE],
        )
    saes = {name: load_sae(root / name / SITE) for name in ("topk", "batchtopk")}
    return root, saes, torch.from_numpy(store.read(SITE, held_out_rows(store)))


def affine(sae):
    """Encoder, its bias for inputs less b_dec, decoder, b_dec, with any decoder norms inside."""
    view = open_dictionaries({SITE: sae})[SITE]
    bias = view.encoder_bias + view.decoder_bias @ view.encoder
    return view.encoder.contiguous(), bias, view.decoder.contiguous(), view.decoder_bias


def write(form, folder, saes):
    """One of the SAEs as another project would keep it; which one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    encoder, bias, decoder, b_dec = affine(saes["topk"])
    d_in, d_sae = encoder.shape
    if form == "sae_lens":
        saes["topk"].save_model(folder)
        return "topk"
    if form == "dictionary_learning":
        trainer = {
            "dict_class": "AutoEncoderTopK",
            "activation_dim": d_in,
            "dict_size": d_sae,
            "k": 4,
            "layer": 1,
            "lm_name": "tiny",
        }
        (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))
        save_file(
            {
                "encoder.weight": encoder.T.contiguous(),
                "encoder.bias": bias,
                "decoder.weight": decoder.T.contiguous(),
                "b_dec": b_dec,
            },
            folder / "ae.safetensors",
        )
        return "topk"
    if form == "sparsify":
        (folder / "cfg.json").write_text(
            json.dumps(
                {
                    "d_in": d_in,
                    "expansion_factor": 4,
                    "num_latents": d_sae,
                    "k": 4,
                    "normalize_decoder": False,
                }
            )
        )
        save_file(
            {
                "encoder.weight": encoder.T.contiguous(),
                "encoder.bias": bias,
                "W_dec": decoder,
                "b_dec": b_dec,
            },
            folder / "sae.safetensors",
        )
        return "topk"
    encoder, bias, decoder, b_dec = affine(saes["batchtopk"])
    threshold = saes["batchtopk"].threshold * saes["batchtopk"].W_dec.norm(dim=1) / decoder.norm(dim=1)
    plain = bias - b_dec @ encoder
    if form == "gemma_scope":
        np.savez(
            folder / "params.npz", W_enc=encoder, b_enc=plain, W_dec=decoder, b_dec=b_dec, threshold=threshold
        )
    else:  # llama_scope: one threshold for all, weights for inputs of mean norm sqrt(d)
        scale, common = 3.0, float(threshold.mean())
        (folder / "hyperparams.json").write_text(
            json.dumps(
                {
                    "d_model": d_in,
                    "d_sae": d_sae,
                    "jump_relu_threshold": common / scale,
                    "hook_point_in": SITE,
                    "dataset_average_activation_norm": {"in": d_in**0.5 / scale},
                }
            )
        )
        (folder / "checkpoints").mkdir()
        save_file(
            {
                "encoder.weight": (encoder / scale).T.contiguous(),
                "encoder.bias": plain,
                "decoder.weight": (decoder * scale).T.contiguous(),
                "decoder.bias": b_dec * scale,
            },
            folder / "checkpoints" / "final.safetensors",
        )
    return "batchtopk"


def take(world, source, **changes):
    root, _, x = world
    owner = Owner("tiny", "m" * 64, True)
    return adopt(
        source, root / "out", owner, **{"site": SITE, "d_in": x.shape[1], "activations": x, **changes}
    )


@pytest.mark.parametrize("form", FORMATS.names())
def test_every_format_gives_the_same_sae(world, form):
    root, saes, x = world
    folder = root / form / "layers.1"
    expected = saes[write(form, folder, saes)]
    assert read_sae(folder)[0] == form
    found = take(world, PretrainedSource("mine", folder, neuronpedia="tiny/1-res"))
    assert (
        found.cfg.metadata.hook_name == SITE
        and neuronpedia_url(found, 7) == "https://www.neuronpedia.org/tiny/1-res/7"
    )
    if form == "llama_scope":  # one threshold in place of many
        torch.testing.assert_close(
            found.decode(found.encode(x)), expected.decode(expected.encode(x)), rtol=0, atol=0.3
        )
        return
    torch.testing.assert_close(found.encode(x), expected.encode(x), rtol=0, atol=1e-4 * float(x.abs().max()))
    torch.testing.assert_close(found(x), expected(x), rtol=0, atol=1e-4 * float(x.abs().max()))


def test_a_scale_that_was_not_folded_is_folded(world):
    root, saes, x = world
    norm = float(x.double().norm(dim=1).mean())
    scale = x.shape[1] ** 0.5 / norm
    folder = root / "scaled"
    sae = load_sae(root / "topk" / SITE)
    sae.fold_activation_norm_scaling_factor(1 / scale)  # the SAE of inputs times `scale`
    sae.save_model(folder)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(
        json.dumps(config | {"normalize_activations": "expected_average_only_in"})
    )
    for said in (0.0, scale):
        torch.testing.assert_close(
            take(world, PretrainedSource("scaled", folder, scale=said)).encode(x),
            saes["topk"].encode(x),
            rtol=0,
            atol=1e-4 * float(x.abs().max()),
        )
    with pytest.raises(UserError, match="has L0 .*usual causes: .1.*.2. a scale"):
        take(world, PretrainedSource("scaled", folder, scale=scale * 30))


def test_recorded_numbers_are_compared_with_measured_ones(world):
    root, saes, x = world
    found = check_measured(saes["topk"], PretrainedSource("a", root), SITE, x)
    assert found["l0"] == pytest.approx(4, abs=0.5) and found["fvu"] < 0.5
    check_measured(saes["topk"], PretrainedSource("a", root, l0=found["l0"] * 1.3, fvu=found["fvu"]), SITE, x)
    with pytest.raises(UserError, match="expected about L0 64.0 as its release says"):
        check_measured(saes["topk"], PretrainedSource("a", root, l0=64.0), SITE, x)
    with pytest.raises(UserError, match="expected an FVU below"):
        check_measured(saes["topk"], PretrainedSource("a", root), SITE, x[:, torch.randperm(x.shape[1])] * 9)


def test_what_does_not_belong_is_refused(world):
    root, saes, x = world
    folder = root / "dictionary_learning" / "layers.1"
    write("dictionary_learning", folder, saes)
    source = PretrainedSource("mine", folder)
    with pytest.raises(UserError, match=f"was trained on {SITE}; expected {SITES[0]}"):
        take(world, source, site=SITES[0])
    with pytest.raises(UserError, match="d_in .*belongs to another model"):
        take(world, source, d_in=999)
    before = (folder / "ae.safetensors").read_bytes()
    (folder / "ae.safetensors").write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError, match="not as the format dictionary_learning has it"):
        take(world, source)
    (folder / "ae.safetensors").unlink()
    (folder / "ae.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="ae.pt, a pickle.*expected safetensors.*save_file as ae.safetensors"):
        take(world, source)
    (folder / "ae.pt").unlink()
    with pytest.raises(UserError, match="holds no SAE"):
        take(world, source)


def test_names_of_releases(monkeypatch, tmp_path):
    with pytest.raises(
        UserError,
        match="unknown sae-lens release 'gemma-scope-2b-pt-res-canonica'; did you mean "
        "'gemma-scope-2b-pt-res-canonical'",
    ):
        find_pretrained("gemma-scope-2b-pt-res-canonica:layer_12/width_16k/canonical")
    with pytest.raises(UserError, match="unknown SAE of gemma-scope"):
        find_pretrained("gemma-scope-2b-pt-res-canonical:layer_12/width_15k/canonical")
    with pytest.raises(UserError, match="not in the local cache and HF_HUB_OFFLINE"):
        find_pretrained("gemma-scope-2b-pt-res-canonical:layer_12/width_16k/canonical")
    with pytest.raises(UserError, match="is no directory; expected a directory, or RELEASE:ID"):
        find_pretrained("nowhere")
    import huggingface_hub

    asked = SimpleNamespace()

    def cached(repository, **options):
        asked.repository, asked.options = repository, options
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    found = find_pretrained("gemma-scope-2b-pt-res-canonical:layer_12/width_16k/canonical")
    assert asked.repository == "google/gemma-scope-2b-pt-res" and not any(
        ".pt" in pattern for pattern in asked.options["allow_patterns"]
    )
    assert found.neuronpedia == "gemma-2-2b/12-gemmascope-res-16k" and found.directory.name.startswith(
        "average_l0"
    )


def test_which_site_gets_which():
    assert parse_pretrained([f"{SITE}=a:b/c", "0=/some/dir"], SITES) == {SITE: "a:b/c", SITES[0]: "/some/dir"}
    for wrong, says in (
        ("abc", "expected SITE=RELEASE:ID"),
        ("blocks.9.hook_resid_post=x", "unknown site in sae_source.pretrained"),
    ):
        with pytest.raises(UserError, match=says):
            parse_pretrained([wrong], SITES)
    with pytest.raises(UserError, match="twice"):
        parse_pretrained(["1=a", f"{SITE}=b"], SITES)


def test_a_run_mixes_pretrained_and_other_saes(debug_run, tmp_path):
    from emocircuits.progress import quiet
    from emocircuits.runs.execute import run_pipeline
    from emocircuits.runs.run import Run

    run = shutil.copytree(debug_run, tmp_path / "run")
    source = shutil.copytree(debug_run / "saes" / SITE, tmp_path / "published")
    config = json.loads((source / "cfg.json").read_text())
    config["metadata"] = {
        "hook_name": SITE,
        "model_name": "planted",
        "neuronpedia_id": "planted/1-res",
        "sae_lens_version": "6.54.12",
    }
    (source / "cfg.json").write_text(json.dumps(config))
    recipe = Run.open(
        run, (f"sae_source.pretrained=['1={source}']", f"sae_source.directory='{debug_run / 'saes'}'")
    ).recipe
    with quiet():
        run_pipeline(recipe, run, only="sae")
    assert neuronpedia_url(load_sae(run / "saes" / SITE), 3).endswith("planted/1-res/3")
    assert json.loads((run / "saes" / SITES[0] / "cfg.json").read_text()) == json.loads(
        (debug_run / "saes" / SITES[0] / "cfg.json").read_text()
    )
    assert (run / "saes.csv").read_text() == (debug_run / "saes.csv").read_text()


@pytest.mark.parametrize(
    ("layer", "part", "hook"),
    [
        (1, "", SITE),
        (1, "resid_post_layer_1", SITE),
        (1, "mlp_out_layer_1", "blocks.1.hook_mlp_out"),
        (1, "attn_out_layer_1", "blocks.1.hook_attn_out"),
        (1, "resid_pre_layer_1", "blocks.1.hook_resid_pre"),
        (2, "made_up_layer_2", "'made_up_layer_2' of block 2"),
    ],
)
def test_the_place_in_the_block_counts_too(world, layer, part, hook):
    """An SAE of the MLP's output is none of the residual stream, however well it reconstructs it."""
    root, saes, _ = world
    folder = root / "dictionary_learning" / "layers.1"
    write("dictionary_learning", folder, saes)
    config = json.loads((folder / "config.json").read_text())
    config["trainer"] |= {"layer": layer, "submodule_name": part}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_sae(folder)[1].hook == hook
    if hook == SITE:
        assert take(world, PretrainedSource("mine", folder)).cfg.metadata.hook_name == SITE
    else:
        with pytest.raises(UserError, match=f"was trained on {re.escape(hook)}; expected {SITE}"):
            take(world, PretrainedSource("mine", folder))


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("layers.1", SITE),
        ("layers.1.mlp", "blocks.1.hook_mlp_out"),
        ("layers.1.self_attn", "blocks.1.hook_attn_out"),
        ("model.layers.1", SITE),
        ("unnamed", ""),
    ],
)
def test_a_folder_of_sparsify_says_its_place(world, name, hook):
    root, saes, _ = world
    folder = root / "sparsify" / name
    write("sparsify", folder, saes)
    assert read_sae(folder)[1].hook == hook


def test_a_dictionary_that_does_not_subtract_its_bias(world):
    """`AutoEncoderNew`: relu(W x + b_enc), then W_dec f + `decoder.bias`."""
    root, _, x = world
    folder, (d_in, d_sae) = root / "dictionary_learning" / "new", (x.shape[1], 40)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    encoder, decoder = torch.randn(d_sae, d_in) / d_in**0.5, torch.randn(d_in, d_sae) / d_sae**0.5
    inner, outer = torch.randn(d_sae) * 0.1, x.mean(0)
    tensors = {
        "encoder.weight": encoder,
        "encoder.bias": inner,
        "decoder.weight": decoder,
        "decoder.bias": outer,
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "ae.safetensors")
    trainer = {"dict_class": "AutoEncoderNew", "activation_dim": d_in, "dict_size": d_sae, "layer": 1}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    found = open_pretrained(PretrainedSource("mine", folder), site=SITE, d_in=d_in)
    right = torch.relu(x @ encoder.T + inner) @ decoder.T + outer
    torch.testing.assert_close(found.decode(found.encode(x)), right, rtol=1e-4, atol=1e-4)
