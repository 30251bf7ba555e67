"""SAEs in half the disk: 16 bits a number in the file; what is read back is float32 and nearly the same."""

from dataclasses import replace

import torch
from fixtures.planted_store import planted_store
from safetensors.torch import load_file

from emocircuits.sae import SAESettings, load_sae, train_saes
from emocircuits.sae.quality import encode_dense


def test_half_the_disk_and_nearly_the_same(tmp_path):
    store = planted_store(tmp_path / "activations.h5", n_prompts=40)
    settings = SAESettings(expansion=2, k=4, training_rows=2048, batch_size=256)
    half = replace(settings, weights_dtype="float16")
    train_saes(store, tmp_path / "whole", settings)
    train_saes(store, tmp_path / "half", half)
    site = store.sites[0]
    files = [tmp_path / name / site / "sae_weights.safetensors" for name in ("whole", "half")]
    assert files[1].stat().st_size < 0.6 * files[0].stat().st_size
    assert {value.dtype for value in load_file(files[1]).values()} == {torch.float16}
    whole, small = (load_sae(file.parent, site=site) for file in files)
    assert {value.dtype for value in small.state_dict().values()} == {torch.float32}
    rows = torch.from_numpy(store.read(site, slice(0, 64)))
    one, other = (sae.decode(encode_dense(sae, rows)) for sae in (whole, small))
    torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2 * float(one.abs().max()))
