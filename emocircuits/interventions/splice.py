"""Splice several SAEs into one forward pass so that one backward pass gives every feature's and error's
gradient.

At each site, with f = encode(x) and e = x - decode(f) as leaves that require a gradient,

    out = decode(f) + e + (x - x.detach())         d out/df = decoder,  d out/de = I,  d out/dx = I

so the value is x, features and errors are separate nodes, and what lies upstream still gets the gradient of
the unspliced model. sae-lens' own error term is computed without a gradient: with it d out/dx becomes encoder
times decoder, and features of earlier SAEs get a wrong total effect (Marks et al. 2024 describe the
pass-through; we differ only in detaching f and e).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from emocircuits.errors import Failure
from emocircuits.passes.edit import edited
from emocircuits.sae.dictionary import Dictionary, open_dictionaries

Replace = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Leaves:
    """The leaves of one site in the latest forward pass; `.grad` is filled by a backward pass.

    Attributes:
        dictionary: the SAE's affine view.
        features: feature activations.
        error: what the SAE leaves unexplained.
    """

    dictionary: Dictionary
    features: Float[torch.Tensor, "prompt pos d_sae"] | None = None
    error: Float[torch.Tensor, "prompt pos d_in"] | None = None


@contextmanager
def splice(
    model: Any, saes: Mapping[str, Any], *, replace: Mapping[str, Replace] | None = None
) -> Iterator[dict[str, Leaves]]:
    """Splices SAEs into every forward pass inside the context.

    Args:
        model: any TransformerLens object.
        saes: site -> inference SAE.
        replace: site -> function from the live `(features, error)` to the ones the model is to go on with.
            The stream then holds `x + (f' - f) @ decoder + (e' - e)`; gradients flow to the replaced values.

    Yields:
        site -> `Leaves`, filled anew by each forward pass.

    Raises:
        UserError: an SAE that does not fit.
        Failure: no forward pass ran through a site.
    """
    dictionaries = open_dictionaries(saes, getattr(model.cfg, "d_model", None))
    unknown_sites = set(replace or {}) - set(dictionaries)
    if unknown_sites:
        raise Failure(f"replacements at sites without an SAE: {', '.join(sorted(unknown_sites))}")
    leaves = {site: Leaves(dictionary) for site, dictionary in dictionaries.items()}
    edits = {site: _edit(leaves[site], (replace or {}).get(site)) for site in dictionaries}
    with edited(model, edits, what="splice", must_change=False):
        yield leaves


def _edit(leaf: Leaves, replace: Replace | None) -> Callable[[torch.Tensor], torch.Tensor]:
    def edit(x: torch.Tensor) -> torch.Tensor:
        dictionary = leaf.dictionary
        value = x.detach().to(dictionary.decoder.dtype)
        grad = torch.is_grad_enabled()
        leaf.features = dictionary.encode(value).requires_grad_(grad)
        leaf.error = (value - dictionary.decode(leaf.features.detach())).requires_grad_(grad)
        features, error = leaf.features, leaf.error
        if replace is not None:
            features, error = replace(features, error)
        out = dictionary.decode(features) + error
        return out.to(x.dtype) + (x - x.detach())

    return edit
