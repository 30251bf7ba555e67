"""SAE features and the error node of one site of the residual stream, as nodes and slots among heads and
MLPs.

Features and error together are the whole stream, so nothing passes by a site: what lies before reaches what
lies after only through them. A feature's slot reads with its encoder row times the slope of its activation
between the two runs, an error's slot with what is left of the stream's gradient; a feature writes with its
decoder row. Features of the SAE that are no nodes keep their baseline while circuits run.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.parts.part import Edit, Held, Reads
from emocircuits.graphs.parts.read_gradients import StreamGradients
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.slopes import SLOPE_LIMIT, slopes
from emocircuits.interventions.ablate import NodeValues
from emocircuits.names import NodeId, format_node, layer_of
from emocircuits.passes.record import Change, CleanCorrupt, Pass
from emocircuits.passes.window import Window
from emocircuits.sae.dictionary import Dictionary

FEATURES, ERROR = ".features", ".error"  # of a site, in what a reference holds
AFTER = {"hook_resid_pre": -0.5, "hook_resid_mid": 1.5, "hook_resid_post": 3.5}


class Features:
    """Writer and reader.

    Args:
        dictionary: the SAE.
        chosen: its features that are nodes, ascending; the error node is always one.

    Raises:
        UserError: a site that is not the residual stream.
    """

    cuts, constants = True, ()

    def __init__(self, dictionary: Dictionary, chosen: Sequence[int]):
        site = dictionary.site
        kind = site.rsplit(".", 1)[1]
        if kind not in AFTER:
            raise UserError(
                f"an SAE at {site} among heads and MLPs",
                expected="a site of the residual stream",
                cure="attribute its features with nodes='features'",
            )
        self._dictionary, self._site = dictionary, site
        self.chosen = torch.as_tensor(list(chosen), dtype=torch.long, device=dictionary.decoder.device)
        ids = [NodeId("feature", site=site, feature=int(feature)) for feature in chosen]
        self.nodes = self.slots = tuple(map(format_node, [*ids, NodeId("error", site=site)]))
        self.taps = self.read_taps = (site,)
        self.writes_at = self.reads_at = 4.0 * layer_of(site) + AFTER[kind]

    def effects(self, sides: CleanCorrupt, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of the activation, gradient along the decoder row >, and the same for the error."""
        run, grad = self._run(sides), grads[self._site].to(self._dictionary.decoder.dtype)
        features = (self._columns(sides) * (grad @ self._dictionary.decoder[self.chosen].T)).sum(1)
        return torch.cat([features, (run.delta_error * grad).sum((1, 2))[:, None]], dim=1)

    def write(
        self, sides: CleanCorrupt, window: Window, out: Float[Tensor, "node prompt pos d_model"]
    ) -> None:
        """See `Writer`."""
        columns = self._columns(sides)[window].permute(2, 0, 1)[..., None]
        torch.mul(columns, self._dictionary.decoder[self.chosen][:, None, None], out=out[:-1])
        out[-1] = self._run(sides).delta_error[window]

    def moved(
        self, sides: CleanCorrupt, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        if self._site + FEATURES in sides.clean.values:  # from the clean run to its reference
            back = sides.once("ablated", lambda: _ablated(sides))
            return -self._written(back)[prompts, nodes]
        return self._written(sides)[prompts, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        if self._site + FEATURES in source.values:
            held = [source.values[self._site + part] for part in (FEATURES, ERROR)]
            features, error = (_rows(value, prompts) for value in held)
            wanted = features[..., self.chosen]
        else:
            wanted, error = self._split(source.values[self._site][prompts])

        def edit(value: Tensor) -> Tensor:
            own, rest = self._split(value)
            return value + self._difference(wanted - own, error - rest, nodes)

        return self._site, edit

    def read_gradients(self, sides: CleanCorrupt, point: Pass, weight: float) -> StreamGradients:
        """See `Reader`; the slopes are those between the two runs."""
        encoder = self._dictionary.encoder
        grad = weight * point.grads[self._site].to(encoder.dtype)
        slope = sides.once((self._site, "slopes"), lambda: slopes(self._run(sides), SLOPE_LIMIT))
        pull = slope * (grad @ self._dictionary.decoder.T)
        features = torch.einsum("ptn,dn->nptd", pull[..., self.chosen], encoder[:, self.chosen])
        return StreamGradients(torch.cat([features, (grad - pull @ encoder.T)[None]]))

    def hook_of(self, slot: int) -> str:
        """See `Reader`."""
        return self._site

    def patch_slots(
        self,
        base: Pass,
        slots: Int[Tensor, "row"],
        prompts: Int[Tensor, "row"],
        change: Float[Tensor, "row pos d_model"],
    ) -> Edit:
        """See `Reader`."""
        stream = base.values[self._site][prompts]
        (features, error), (moved, rest) = self._split(stream), self._split(stream + change)
        added = self._difference(moved - features, rest - error, slots)
        return self._site, lambda value: value + added

    def parts(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All features and the error of the stream at the site, by the names under which a reference holds
        them.
        """
        whole = NodeValues.of(self._dictionary, values[self._site])
        return {self._site + FEATURES: whole.features, self._site + ERROR: whole.error}

    def held(self, run: Pass) -> Held:
        """See `CircuitPart`: all features of the SAE, and the error."""
        whole = NodeValues.of(self._dictionary, run.values[self._site])
        return whole.features, whole.error

    def shift(self, held: Held, base: Held) -> Float[Tensor, "prompt pos d_model"]:
        """See `CircuitPart`."""
        return (base[0] - held[0]) @ self._dictionary.decoder + base[1] - held[1]

    def circuit_hooks(
        self, reads: Reads, base: Held, n_circuits: int, keep: Callable[[Held], None]
    ) -> Mapping[str, Change]:
        """See `CircuitPart`; each feature reads a stream of its own and is encoded from it. Changes are those
        of the features that are nodes, and of the error.
        """

        def site(value: Tensor) -> Tensor:
            streams, kinds = reads()
            *of_features, of_error = kinds
            features = base[0].new_empty(*streams.shape[:1], *streams.shape[2:4], len(self.chosen))
            for stream in set(of_features):
                places = [place for place, read in enumerate(of_features) if read == stream]
                encoded = self._dictionary.encode(streams[:, stream])
                features[..., places] = encoded[..., self.chosen[places]].to(features.dtype)
            _, error = self._split(streams[:, of_error])
            keep((features - base[0][..., self.chosen], error - base[1]))
            return value

        return {self._site: site}

    def mix(self, changes: Held, base: Held, kept: Float[Tensor, "circuit kind node"]) -> Tensor:
        """See `CircuitPart`."""
        features, error = changes
        of_features, of_error = kept[..., :-1], kept[..., -1]
        used = of_features.any(dim=0).any(dim=0).nonzero().squeeze(1)
        chosen = features[:, None, ..., used] * of_features[:, :, None, None, used]
        written = chosen @ self._dictionary.decoder[self.chosen[used]]
        return written + of_error[:, :, None, None, None] * error[:, None]

    def _split(self, x: Float[Tensor, "*row pos d_model"]) -> tuple[Tensor, Tensor]:
        whole = NodeValues.of(self._dictionary, x)
        return whole.features[..., self.chosen], whole.error

    def _difference(
        self, features: Tensor, error: Tensor, nodes: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What a change of one feature, or of the error, writes in every row."""
        if not len(self.chosen):
            return error
        place = nodes.clamp(max=len(self.chosen) - 1)
        rows = torch.arange(len(nodes), device=nodes.device)
        written = features[rows, :, place][..., None] * self._dictionary.decoder[self.chosen[place]][:, None]
        return torch.where((nodes < len(self.chosen))[:, None, None], written, error)

    def _run(self, sides: CleanCorrupt) -> SiteRun:
        return sides.once(self._site, lambda: self._site_run(sides))

    def _site_run(self, sides: CleanCorrupt) -> SiteRun:
        clean, corrupt = (side.values[self._site] for side in (sides.clean, sides.corrupt))
        held = [sides.corrupt.values.get(self._site + part) for part in (FEATURES, ERROR)]
        baseline = None if held[0] is None else NodeValues(*held)
        return SiteRun(self._dictionary, clean, corrupt, baseline=baseline, ablated=sides.ablated)

    def _columns(self, sides: CleanCorrupt) -> Float[Tensor, "prompt pos node"]:
        """Changes of the features that are nodes."""
        key = (self._site, *self.chosen.tolist())
        return sides.once(key, lambda: self._run(sides).columns(self.chosen))

    def _written(self, sides: CleanCorrupt) -> Float[Tensor, "prompt node pos d_model"]:
        """What the change of every node writes."""
        features = torch.einsum("ptn,nd->pntd", self._columns(sides), self._dictionary.decoder[self.chosen])
        return torch.cat([features, self._run(sides).delta_error[:, None]], dim=1)


def _ablated(sides: CleanCorrupt) -> CleanCorrupt:
    """The clean run and its reference, of sides that run the other way."""
    return CleanCorrupt(sides.batch, sides.corrupt, sides.clean, sides.passes, ablated=True)


def _rows(value: Tensor, prompts: Int[Tensor, "row"]) -> Tensor:
    """The values of some prompts; one for all where they are shared."""
    return value if len(value) == 1 else value[prompts]
