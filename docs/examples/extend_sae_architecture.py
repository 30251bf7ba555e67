"""An SAE architecture: TopK whose decoder rows are kept at unit length after every step, so that activations
need no rescaling.
"""

from pathlib import Path

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata

from emocircuits import ARCHITECTURES, Architecture, SAESettings


def build(settings, d_in, metadata, device):
    """The training SAE with sae-lens' initial weights."""
    config = TopKTrainingSAEConfig(
        d_in=d_in,
        d_sae=settings.d_sae(d_in),
        k=settings.k,
        device=device,
        metadata=metadata,
        rescale_acts_by_decoder_norm=False,
    )
    return TopKTrainingSAE(config)


def finish(sae, rows):
    """Nothing is left to do once training ends: decoder rows have unit length already."""


@torch.no_grad()
def unit_rows(sae):
    """Called after every training step."""
    sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)


ARCHITECTURES.add(
    Architecture("topk_unit", "TopK with decoder rows of unit length", build, finish, after_step=unit_rows)
)


def example(run: Path) -> None:
    """It is built by name and keeps its constraint; `--set sae.architecture=topk_unit` trains it."""
    member = ARCHITECTURES.get("topk_unit")
    sae = member.build(SAESettings(expansion=2, k=4), 16, SAEMetadata(), "cpu")
    with torch.no_grad():
        sae.W_dec *= 3.0
    member.after_step(sae)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(32))
    assert int((sae.encode(torch.randn(5, 16)) != 0).sum(1).max()) <= 4
