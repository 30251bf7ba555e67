"""The same architecture with nothing learned: every weight matrix shuffled, so that norms stay and structure
goes.

SAEs of such a model score nearly as well as those of a trained one in many measures (Heap et al. 2025, arXiv
2501.17727): what an SAE of the real model shows has to be more than what this one shows.
"""

from dataclasses import replace

import torch

from emocircuits.models.language_model import LanguageModel
from emocircuits.provenance import sha256_json


@torch.no_grad()
def shuffle_weights(model: LanguageModel, seed: int = 0) -> LanguageModel:
    """Shuffles the entries of every parameter with at least two axes, in place; norms and biases stay.

    Args:
        model: a model of its own (load it for this: it is changed).
        seed: seed of the shuffling.

    Returns:
        The model under a name and hash of its own, so that its activations and SAEs are never taken for the
        real one's.
    """
    source = torch.Generator().manual_seed(seed)
    for parameter in model.bridge.parameters():  # tied weights are one parameter and stay tied
        if parameter.ndim >= 2:
            order = torch.randperm(parameter.numel(), generator=source).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    name = f"{model.name} with shuffled weights"
    return replace(
        model, name=name, content_hash=sha256_json([model.content_hash, "shuffled", seed]), checks=()
    )
