"""A checkpoint of another run is refused."""

import pytest

from emocircuits.errors import UserError


def test_a_foreign_checkpoint_is_refused(tmp_path):
    from emocircuits.organism.train import TrainingSettings, train_organism

    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    tiny = TrainingSettings(
        d_model=16,
        layers=1,
        heads=2,
        d_mlp=16,
        vocabulary=2048,
        tokenizer_sample=50,
        steps=1,
        chunk=16,
        compiled=False,
    )
    with pytest.raises(UserError, match="cannot be read"):
        train_organism(tmp_path, settings=tiny)
