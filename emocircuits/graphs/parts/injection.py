"""A direction that is pushed along at a site: one node that writes the same vector at every pushed
position.
"""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.parts.features import AFTER
from emocircuits.graphs.parts.part import Edit
from emocircuits.names import NodeId, format_node, layer_of
from emocircuits.passes.record import CleanCorrupt, Pass
from emocircuits.passes.window import EVERYTHING, Window


class Injection:
    """Writer at a site of the residual stream.

    Args:
        name: name of the direction.
        site: where it is pushed.
        push: what is added, `(d_model,)` at every position or `(pos, d_model)`.

    Raises:
        UserError: a site that is not the residual stream.
    """

    cuts, constants = False, ()

    def __init__(self, name: str, site: str, push: Tensor):
        kind = site.rsplit(".", 1)[1]
        if kind not in AFTER:
            raise UserError(f"a push at {site}", expected="a site of the residual stream")
        self.site, self.push = site, push
        self.nodes = (format_node(NodeId("direction", name=name)),)
        self.taps = (site,)
        self.writes_at = 4.0 * layer_of(site) + AFTER[kind] + 0.1  # after a dictionary at the same site

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< push, gradient at the site >."""
        return (self._everywhere(sides) * grads[self.site]).sum((1, 2))[:, None]

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """See `Writer`."""
        out[0] = self._everywhere(sides, window)

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        return self._everywhere(sides)[prompts]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`; the stream of `source` holds the push or not."""
        return self.site, lambda value: source.values[self.site][prompts].expand_as(value)

    def _everywhere(
        self, sides: CleanCorrupt, window: Window = EVERYTHING
    ) -> Float[Tensor, "prompt pos d_model"]:
        # from the two runs rather than from `push`, so that the sign follows which of them is steered
        return sides.change(self.site, window)
