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

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.gradients import feature_effects, graph_effects, strongest
from emocircuits.attribution.methods.integrated_gradients import FEATURE_STEPS
from emocircuits.graphs.components import component_graph
from emocircuits.graphs.discover import discover
from emocircuits.graphs.feature_sides import FeatureSides, feature_sides, with_path_gradients
from emocircuits.graphs.site_run import SiteRun
from emocircuits.names import parse_node
from emocircuits.numerics import generator
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.task import Task
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


@dataclass(frozen=True, eq=False)
class ControlFinder:
    """Finds circuits in other dictionaries by the method that a result was found by.

    Attributes:
        task: the find prompts, the metric, and the SAEs that the result was found with.
        result: what was found with them.
        steps: midpoints, where the method integrates gradients.
    """

    task: Task
    result: AttributionResult
    steps: int = FEATURE_STEPS
    _known: dict[tuple[int, ...], FeatureSides] = field(default_factory=dict, init=False, repr=False)

    @torch.no_grad()
    def controls(self, seed: int = 0) -> dict[str, dict[str, Dictionary]]:
        """The other dictionaries: `neuron_basis` and `random_dictionary`."""
        sample = feature_sides(self.task, next(iter(self.task.batches())), gradient=False)
        own = self.task.dictionaries
        return {
            "neuron_basis": {site: neuron_basis(dictionary) for site, dictionary in own.items()},
            "random_dictionary": {
                site: random_dictionary(dictionary, sample.sites[site].clean, seed=seed)
                for site, dictionary in own.items()
            },
        }

    def find(self, task: Task) -> AttributionResult:
        """Effects of a task with other dictionaries at the same sites."""
        if all(parse_node(node).kind != "component" for node in self.result.nodes):
            return discover(task, lambda batch: self._swapped(task, batch), self.result.conventions)
        most = sum(parse_node(node).kind == "feature" for node in self.result.nodes)
        found = feature_effects(task, {})
        ranked = [found.nodes[place] for place in strongest(found, len(found.nodes))]
        features = [node for node in ranked if parse_node(node).kind == "feature"][:most]
        return graph_effects(component_graph(task, features), {}, steps=0 if self._plain else self.steps)

    @property
    def _plain(self) -> bool:
        return self.result.conventions.get("method") == "attribution_patching"

    def _swapped(self, task: Task, batch: PairBatch) -> FeatureSides:
        """The gradients do not depend on the dictionary, so they are taken once where they fit."""
        key = tuple(batch.index.tolist())
        sides = self._known.get(key) or self._with_gradients(batch)
        size = sum(3 * at.clean.numel() * at.clean.element_size() for at in sides.sites.values())
        if (len(self._known) + 1) * size <= KEPT_BYTES:
            self._known[key] = sides
        swapped = {
            site: SiteRun(task.dictionaries[site], at.clean, at.corrupt, at.grad)
            for site, at in sides.sites.items()
        }
        return replace(sides, sites=swapped)

    def _with_gradients(self, batch: PairBatch) -> FeatureSides:
        sides = feature_sides(self.task, batch, gradient=self._plain)
        return sides if self._plain else with_path_gradients(self.task, sides, self.steps)
