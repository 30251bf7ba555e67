"""SAE features and the error of one site in a pass of circuits: each reads a stream of its own and is encoded
from it.

Features of the SAE that are no nodes of the graph keep their baseline.
"""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from emocircuits.circuits.live.part import Change, Changes, Reads, Values
from emocircuits.graphs.parts import Features
from emocircuits.passes.record import Pass
from emocircuits.sae.dictionary import Dictionary


class LiveFeatures:
    """See `LivePart`; values are (all features, error), changes those of the features that are nodes, and of
    the error.
    """

    def __init__(self, part: Features, dictionary: Dictionary):
        self._dictionary, self._chosen, self._site = dictionary, part.chosen, dictionary.site
        self.taps = (self._site,)

    def values(self, run: Pass) -> Values:
        """See `LivePart`."""
        return self._split(run.values[self._site])

    def shift(self, live: Values, base: Values) -> Float[Tensor, "prompt pos d_model"]:
        """See `LivePart`."""
        return (base[0] - live[0]) @ self._dictionary.decoder + base[1] - live[1]

    def hooks(self, reads: Reads, base: Values, n_circuits: int, keep: Callable) -> Mapping[str, Change]:
        """See `LivePart`."""

        def site(value: Tensor) -> Tensor:
            streams, kinds = reads()
            *of_features, of_error = kinds
            features = streams.new_zeros(*streams.shape[:1], *streams.shape[2:4], len(self._chosen))
            for one in set(of_features):
                places = [place for place, read in enumerate(of_features) if read == one]
                features[..., places] = self._dictionary.encode(streams[:, one])[
                    ..., self._chosen[places]
                ].to(features.dtype)
            _, error = self._split(streams[:, of_error])
            keep((features - base[0][..., self._chosen], error - base[1]))
            return value

        return {self._site: site}

    def mix(self, changes: Changes, base: Values, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `LivePart`."""
        features, error = changes
        of_features, of_error = kept[..., :-1], kept[..., -1]
        used = of_features.any(dim=0).any(dim=0).nonzero().squeeze(1)
        chosen = features[:, None, ..., used] * of_features[:, :, None, None, used]
        return (
            chosen @ self._dictionary.decoder[self._chosen[used]]
            + of_error[:, :, None, None, None] * error[:, None]
        )

    def _split(self, x: Float[Tensor, "*row d_model"]) -> Values:
        features = self._dictionary.encode(x)
        return features, x - self._dictionary.decode(features)
