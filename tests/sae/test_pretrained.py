"""The same SAE in every known format comes out as the same SAE; what does not belong is refused with its
causes.
"""

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from fixtures.planted_store import SITES, planted_store
from sae.foreign_files import (
    SCALE,
    Weights,
    write_dictionary,
    write_gemma_scope,
    write_gemma_scope_2,
    write_llama_scope,
    write_llama_scope_r1,
    write_qwen_scope,
    write_sparsify,
)

from emocircuits.errors import UserError
from emocircuits.sae import SAESettings, held_out_rows, load_sae, train_saes
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.sae.loading.formats import format_at
from emocircuits.sae.loading.pretrained import (
    Owner,
    PretrainedSource,
    adopt,
    check_measured,
    neuronpedia_url,
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


# format -> what is trained, what writes it, whether its encoder reads x - b_dec, where it lies
FORMS = {
    "sae_lens": ("topk", None, True, "pair"),
    "dictionary_learning": ("topk", partial(write_dictionary, kind="AutoEncoderTopK"), True, "trainer_0"),
    "sparsify": ("topk", write_sparsify, True, "layers.1"),
    "qwen_scope": ("topk", write_qwen_scope, False, "SAE-Res-Qwen3-1.7B-Base-W1K-L0_4/layer1.sae.pt"),
    "gemma_scope": ("batchtopk", write_gemma_scope, False, "layer_1/width_16k/average_l0_4"),
    "gemma_scope_2": ("batchtopk", write_gemma_scope_2, False, "resid_post/layer_1_width_16k_l0_small"),
    "llama_scope": ("batchtopk", write_llama_scope, False, "L1R"),
    "llama_scope_r1": ("batchtopk", write_llama_scope_r1, False, "L1R"),
}


def weights_of(sae, minus):
    """Plain weights of a trained SAE, whose encoder reads x or, with `minus`, x - b_dec."""
    view = open_dictionaries({SITE: sae})[SITE]
    bias = view.encoder_bias + minus * (view.decoder_bias @ view.encoder)
    encoder, decoder = view.encoder.contiguous(), view.decoder.contiguous()
    threshold = torch.zeros(len(decoder))
    if hasattr(sae, "threshold"):
        threshold = sae.threshold * sae.W_dec.norm(dim=1) / decoder.norm(dim=1)
    return Weights(encoder, bias, decoder, view.decoder_bias, threshold)


def write(form, folder, saes):
    """One of the SAEs as another project would keep it: where it lies, and which one it is."""
    shutil.rmtree(folder, ignore_errors=True)
    kind, writer, minus, name = FORMS[form]
    path = folder / name
    path.mkdir(parents=True) if path.suffix != ".pt" else path.parent.mkdir(parents=True)
    if writer is None:
        saes[kind].save_model(path)
        return path, kind
    weights = weights_of(saes[kind], minus)
    if form.startswith("llama_scope"):  # of inputs times SCALE
        weights = replace(
            weights,
            encoder=weights.encoder / SCALE,
            decoder=weights.decoder * SCALE,
            b_dec=weights.b_dec * SCALE,
        )
    writer(path, weights, SITE)
    return path, kind


def take(world, source, **changes):
    root, _, x = world
    owner = Owner("tiny", "m" * 64, True)
    return adopt(
        source, root / "out", owner, **{"site": SITE, "d_in": x.shape[1], "activations": x, **changes}
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_sae(world, form):
    root, saes, x = world
    path, kind = write(form, root / form, saes)
    expected = saes[kind]
    assert format_at(path).name == form
    found = take(world, PretrainedSource("mine", path, neuronpedia="tiny/1-res"))
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
    folder, _ = write("dictionary_learning", root / "refused", saes)
    source = PretrainedSource("mine", folder)
    with pytest.raises(UserError, match=f"was trained on {SITE}; expected {SITES[0]}"):
        take(world, source, site=SITES[0])
    with pytest.raises(UserError, match="d_in .*belongs to another model"):
        take(world, source, d_in=999)
    before = (folder / "ae.pt").read_bytes()
    (folder / "ae.pt").write_bytes(before[: len(before) // 2])
    with pytest.raises(UserError, match="ae.pt holds more than tensors or is damaged"):
        take(world, source)
    (folder / "ae.pt").unlink()
    with pytest.raises(UserError, match="holds no SAE; expected one of the formats sae_lens"):
        take(world, source)
    with pytest.raises(UserError, match="there is no SAE"):
        take(world, PretrainedSource("mine", folder / "nowhere"))


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
    ("layer", "part", "place"),
    [
        (1, "", SITE),
        (1, "resid_post_layer_1", SITE),
        (2, "resid_pre_layer_2", SITE),
        (7, "model.layers.1", SITE),
        (1, "mlp_out_layer_1", "blocks.1.hook_mlp_out"),
        (1, "attn_out_layer_1", "blocks.1.hook_attn_out"),
        (1, "resid_pre_layer_1", SITES[0]),
        (2, "made_up_layer_2", "'made_up_layer_2' of block 2"),
    ],
)
def test_the_place_in_the_block_counts_too(world, layer, part, place):
    """An SAE of the MLP's output is none of the residual stream, however well it reconstructs it."""
    root, saes, _ = world
    folder, _ = write("dictionary_learning", root / "places", saes)
    config = json.loads((folder / "config.json").read_text())
    config["trainer"] |= {"layer": layer, "submodule_name": part}
    (folder / "config.json").write_text(json.dumps(config))
    if place == SITE:
        assert take(world, PretrainedSource("mine", folder)).cfg.metadata.hook_name == SITE
    else:
        with pytest.raises(UserError, match=f"was trained on {re.escape(place)}; expected {SITE}"):
            take(world, PretrainedSource("mine", folder))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layers.1", ""),
        ("model.layers.1", ""),
        ("layers.1.mlp", "was trained on blocks.1.hook_mlp_out"),
        ("layers.1.self_attn", "was trained on blocks.1.hook_attn_out"),
        ("embed_tokens", "was trained on hook_embed"),
        ("unnamed", "Unrecognized Sparsify folder: unnamed"),
    ],
)
def test_a_folder_of_sparsify_says_its_place(world, name, says):
    root, saes, _ = world
    path, _ = write("sparsify", root / "sparsify", saes)
    path = path.rename(path.with_name(name))
    if not says:
        assert take(world, PretrainedSource("mine", path)).cfg.metadata.hook_name == SITE
        return
    with pytest.raises(UserError, match=says):
        take(world, PretrainedSource("mine", path))
