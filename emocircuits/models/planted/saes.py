"""Hand-set dictionaries for the planted model: one feature per named axis, and distractors on word
identities.
"""

from pathlib import Path

import torch
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig

from emocircuits.models.planted.text import AXES, CONST, D_MODEL, N_LAYERS
from emocircuits.names import residual_site
from emocircuits.numerics import generator

N_DISTRACTORS = 13
DISTRACTOR_THRESHOLD = 1.0
FEATURES = {name: number for number, name in enumerate(name for name in AXES if name != "const")}
D_SAE = len(FEATURES) + N_DISTRACTORS


def planted_sae(layer: int) -> StandardSAE:
    """The dictionary of one site: `FEATURES` names its features, the last `N_DISTRACTORS` are distractors.

    A named feature is relu of its axis. A distractor is relu(u . x - 1) with a random unit vector u of the
    identity space; what they leave of the word identities is the error node. `b_dec` holds the constant axis.
    """
    site = residual_site(layer)
    sae = StandardSAE(
        StandardSAEConfig(
            d_in=D_MODEL,
            d_sae=D_SAE,
            metadata=SAEMetadata(model_name="planted", hook_name=site, context_size=128, prepend_bos=True),
        )
    )
    rows = torch.zeros(D_SAE, D_MODEL)
    for name, number in FEATURES.items():
        rows[number, AXES[name]] = 1.0
    shape = (N_DISTRACTORS, D_MODEL - len(AXES))
    distractors = torch.from_numpy(generator(0, "planted distractors", layer).standard_normal(shape))
    rows[len(FEATURES) :, len(AXES) :] = torch.nn.functional.normalize(distractors, dim=-1).float()
    bias = torch.zeros(D_SAE)
    bias[len(FEATURES) :] = -DISTRACTOR_THRESHOLD
    constant = torch.zeros(D_MODEL)
    constant[AXES["const"]] = CONST
    with torch.no_grad():
        sae.W_enc.copy_(rows.T)
        sae.W_dec.copy_(rows)
        sae.b_enc.copy_(bias)
        sae.b_dec.copy_(constant)
    return sae


def planted_saes(directory: str | Path | None = None) -> dict[str, StandardSAE]:
    """The dictionaries of all sites; with a directory, also written there as sae-lens pairs, one folder per
    site.
    """
    saes = {residual_site(layer): planted_sae(layer) for layer in range(N_LAYERS)}
    if directory is not None:
        for site, sae in saes.items():
            sae.save_model(str(Path(directory) / site))
    return saes
