"""How many nodes there are to choose from: features that fire on the prompts at all, and the error of every
site.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emocircuits.graphs.linearise import record_clean
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, PairBatch, chunks
from emocircuits.sae.dictionary import open_dictionaries


@torch.no_grad()
def active_nodes(
    model: Any, saes: Mapping[str, Any], batches: Sequence[PairBatch], *, max_tokens: int = DEFAULT_MAX_TOKENS
) -> dict[str, int]:
    """Site -> features that fire on any clean or corrupt prompt, and 1 for the error.

    Nodes that fire alike on both sides of every pair count, although they have no effect to attribute.

    Args:
        model: any TransformerLens object.
        saes: site -> SAE.
        batches: prompt pairs, grouped by length.
        max_tokens: tokens per pass.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    fired = {
        site: torch.zeros(one.d_sae, dtype=torch.bool, device=one.decoder.device)
        for site, one in dictionaries.items()
    }
    for chunk in chunks(batches, max_tokens):
        for side in (chunk, PairBatch(chunk.corrupt, chunk.clean, chunk.index)):
            for site, stream in record_clean(model, dictionaries, side).items():
                fired[site] |= (dictionaries[site].encode(stream) != 0).flatten(0, -2).any(0)
    return {site: int(mask.sum()) + 1 for site, mask in fired.items()}
