"""Circuits that say what a score is worth: found without gradients, in another basis, in a dictionary that
means nothing.

* *magnitude*: as many candidates in each group as the circuit has, those that change most between clean and
  corrupt;
* *neuron basis*: the coordinates of the stream as features (their error is zero);
* *random dictionary*: decoder rows of random directions with the norms of the SAE's, as many of them active
  as in the SAE (top-k of the projections), scaled to reconstruct the stream as well as one number can; what
  it misses is its error node.

In the other dictionaries a circuit of the same size is found by the same method on the same prompts, and
judged on the same held-out prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.components import by_points, graph_attribution
from emocircuits.attribution.methods.attribution_patching import (
    CONVENTIONS,
    attribution_patching,
    corrupt_point,
    effects_of,
)
from emocircuits.attribution.methods.integrated_gradients import STEPS, input_path, with_path_gradients
from emocircuits.circuits.candidates import graph_of
from emocircuits.graphs.linearise import PairRun, SiteRun, run_pair
from emocircuits.names import layer_of, parse_node
from emocircuits.numerics import generator
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch
from emocircuits.passes.resume import skipped_blocks
from emocircuits.sae.dictionary import Dictionary

KEPT_BYTES = 1 << 30  # of gradients that are used for a second dictionary rather than computed again


@dataclass(frozen=True, eq=False)
class TopProjections:
    """The nonlinearity of a random dictionary: the largest k projections, where positive."""

    encoder: Float[Tensor, "d_in d_sae"]
    bias: Float[Tensor, "d_sae"]
    k: int

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_sae"]:
        """Feature activations."""
        found = (x @ self.encoder + self.bias).topk(self.k, dim=-1)
        return torch.zeros(*x.shape[:-1], self.encoder.shape[1], dtype=x.dtype, device=x.device).scatter_(
            -1, found.indices, found.values.relu()
        )


def neuron_basis(dictionary: Dictionary) -> Dictionary:
    """The coordinates of the stream at a site as its features."""
    eye, zero = (
        torch.eye(dictionary.d_in).to(dictionary.decoder),
        torch.zeros(dictionary.d_in).to(dictionary.decoder),
    )
    return Dictionary(dictionary.site, eye, zero, eye, zero, None)


def random_dictionary(
    dictionary: Dictionary, stream: Float[Tensor, "prompt pos d_model"], *, seed: int = 0
) -> Dictionary:
    """A dictionary of random directions that is like a given one in norms, offset and number of active
    features.

    Args:
        dictionary: the SAE.
        stream: the stream at its site on some prompts.
        seed: seed of the directions.
    """
    drawn = torch.from_numpy(
        generator(seed, "random dictionary", dictionary.site).standard_normal(dictionary.decoder.shape)
    )
    units = torch.nn.functional.normalize(drawn, dim=1).to(dictionary.decoder)
    norms = dictionary.decoder.norm(dim=1, keepdim=True)
    active = float((dictionary.encode(stream) != 0).sum(-1).double().mean())
    k = min(dictionary.d_sae, max(1, round(active)))
    offset = dictionary.decoder_bias
    encoder = (units / norms.clamp(min=1e-12)).T
    made = TopProjections(encoder, -offset @ encoder, k)
    x = stream.to(offset.dtype)
    guess = made.encode(x) @ (units * norms)
    gain = ((x - offset) * guess).sum() / guess.square().sum().clamp(min=1e-30)
    made = TopProjections(encoder * gain, made.bias * gain, k)
    return Dictionary(dictionary.site, made.encoder, made.bias, units * norms, offset, made)


class Refinder:
    """Finds circuits in other dictionaries by the method that a result was found by.

    Args:
        model: any TransformerLens object.
        dictionaries: site -> the SAE's dictionary.
        batches: the find prompts.
        metric: logits -> one value per prompt.
        result: what was found with the SAEs.
        steps: midpoints, where the method integrates gradients.
        max_tokens: tokens per pass.
    """

    def __init__(
        self,
        model: Any,
        dictionaries: Mapping[str, Dictionary],
        batches: Sequence[PairBatch],
        metric: Metric,
        result: AttributionResult,
        *,
        steps: int = STEPS,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ):
        self._model, self._dictionaries, self._batches, self._metric = model, dictionaries, batches, metric
        self._result, self._steps, self._max_tokens = result, steps, max_tokens
        self._plain = result.conventions.get("method") == "attribution_patching"
        self._runs: dict[tuple[int, ...], PairRun] = {}
        self._bytes = 0

    @torch.no_grad()
    def controls(self, seed: int = 0) -> dict[str, dict[str, Dictionary]]:
        """The other dictionaries: `neuron_basis` and `random_dictionary`."""
        sample = self._batches[0].rows(slice(0, max(1, self._max_tokens // self._batches[0].clean.shape[1])))
        run = run_pair(self._model, self._dictionaries, sample, self._metric, gradient=False)
        return {
            "neuron_basis": {site: neuron_basis(one) for site, one in self._dictionaries.items()},
            "random_dictionary": {
                site: random_dictionary(one, run.sites[site].clean, seed=seed)
                for site, one in self._dictionaries.items()
            },
        }

    def find(self, dictionaries: Mapping[str, Dictionary]) -> AttributionResult:
        """Effects with other dictionaries at the same sites."""
        if all(parse_node(node).kind != "component" for node in self._result.nodes):
            return effects_of(
                self._model,
                dictionaries,
                self._batches,
                self._swapped,
                behaviour=self._result.behaviour,
                positions=False,
                max_tokens=self._max_tokens,
                conventions=self._result.conventions,
            )
        most = sum(node.startswith("feature/") for node in self._result.nodes)
        found = attribution_patching(
            self._model, dictionaries, self._batches, self._metric, max_tokens=self._max_tokens
        )
        strongest = [node for node in found.node_table()["node"] if node.startswith("feature/")][:most]
        graph = graph_of(self._model, strongest, dictionaries, self._batches)

        def path(*given: Any):
            return corrupt_point(*given) if self._plain else input_path(*given, steps=self._steps)

        return graph_attribution(
            graph,
            self._batches,
            self._metric,
            by_points(path),
            dict(CONVENTIONS),
            max_tokens=self._max_tokens,
        )

    def _swapped(self, dictionaries: Mapping[str, Dictionary], chunk: PairBatch) -> PairRun:
        """The gradients do not depend on the dictionary, so they are taken once where they fit."""
        key = tuple(chunk.index.tolist())
        run = self._runs.get(key)
        if run is None:
            if self._plain:
                run = run_pair(self._model, self._dictionaries, chunk, self._metric)
            else:
                run = run_pair(self._model, self._dictionaries, chunk, self._metric, gradient=False)
                for site, at in run.sites.items():
                    # what lies before the site is replaced by the path
                    with skipped_blocks(self._model, layer_of(site)):
                        one = with_path_gradients(
                            self._model, replace(run, sites={site: at}), self._metric, self._steps
                        )
                    run.sites[site] = one.sites[site]
            self._bytes += sum(3 * at.clean.numel() * at.clean.element_size() for at in run.sites.values())
            if self._bytes <= KEPT_BYTES:
                self._runs[key] = run
        sites = {
            site: SiteRun(dictionaries[site], at.clean, at.corrupt, at.grad) for site, at in run.sites.items()
        }
        return replace(run, sites=sites)
