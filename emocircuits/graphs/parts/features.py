"""SAE features and the error node of one site of the residual stream, as nodes and slots among heads and
MLPs.

Features and error together are the whole stream, so nothing passes by a site: what lies before reaches what
lies behind only through them. A feature's slot reads with its encoder row times the slope of its activation
between the two runs, an error's slot with what is left of the stream's gradient; a feature writes with its
decoder row.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.parts.part import ERROR, FEATURES, Edit, Pair
from emocircuits.graphs.parts.seeds import StreamSeeds
from emocircuits.graphs.parts.window import Window
from emocircuits.graphs.site_run import SiteRun
from emocircuits.graphs.slopes import SLOPE_LIMIT, slopes
from emocircuits.interventions.ablate import Baseline
from emocircuits.names import NodeId, format_node, layer_of
from emocircuits.passes.record import Pass
from emocircuits.sae.dictionary import Dictionary

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
        ids = [NodeId("feature", site=site, feature=int(feature)) for feature in chosen] + [
            NodeId("error", site=site)
        ]
        self.nodes = self.slots = tuple(map(format_node, ids))
        self.taps = self.read_taps = (site,)
        self.writes_at = self.reads_at = 4.0 * layer_of(site) + AFTER[kind]
        self._run: tuple[Pair, SiteRun] | None = None
        self._columns: tuple[SiteRun, Tensor] | None = None

    def effects(self, pair: Pair, grads: Mapping[str, Tensor]) -> Float[Tensor, "prompt node"]:
        """< change of the activation, gradient along the decoder row >, and the same for the error."""
        run = self._site_run(pair)
        features = (
            run.columns(self.chosen) * (grads[self._site] @ self._dictionary.decoder[self.chosen].T)
        ).sum(1)
        return torch.cat([features, (run.delta_error * grads[self._site]).sum((1, 2))[:, None]], dim=1)

    def write(self, pair: Pair, window: Window, out: Float[Tensor, "node prompt pos d_model"]) -> None:
        """See `Writer`."""
        run = self._site_run(pair)
        if self._columns is None or self._columns[0] is not run:
            self._columns = run, run.columns(self.chosen)
        torch.mul(
            self._columns[1][window].permute(2, 0, 1)[..., None],
            self._dictionary.decoder[self.chosen][:, None, None],
            out=out[:-1],
        )
        out[-1] = run.delta_error[window]

    def _change(self, pair: Pair) -> Float[Tensor, "prompt node pos d_model"]:
        run = self._site_run(pair)
        features = torch.einsum(
            "ptn,nd->pntd", run.columns(self.chosen), self._dictionary.decoder[self.chosen]
        )
        return torch.cat([features, run.delta_error[:, None]], dim=1)

    def moved(
        self, pair: Pair, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """See `Writer`."""
        if self._site + FEATURES in pair.clean.values:  # from the clean run to its baseline
            return -self._change(Pair(pair.corrupt, pair.clean, ablated=True))[prompts, nodes]
        return self._change(pair)[prompts, nodes]

    def patch(self, source: Pass, nodes: Int[Tensor, "row"], prompts: Int[Tensor, "row"]) -> Edit:
        """See `Writer`."""
        if self._site + FEATURES in source.values:
            wanted, error = (
                source.values[self._site + FEATURES][prompts][..., self.chosen],
                source.values[self._site + ERROR][prompts],
            )
        else:
            wanted, error = self._split(source.values[self._site][prompts])

        def edit(value: Tensor) -> Tensor:
            features, rest = self._split(value)
            return value + self._difference(wanted - features, error - rest, nodes)

        return self._site, edit

    def seeds(self, point: Pass, weight: float) -> StreamSeeds:
        """See `Reader`; the slopes are those between the two runs of the latest pair."""
        if self._run is None:
            raise UserError(
                "slots of features were asked for before the two runs", cure="compute `written` first"
            )
        grad, encoder = weight * point.grads[self._site], self._dictionary.encoder
        pull = slopes(self._run[1], SLOPE_LIMIT) * (grad @ self._dictionary.decoder.T)
        features = torch.einsum("ptn,dn->nptd", pull[..., self.chosen], encoder[:, self.chosen])
        return StreamSeeds(torch.cat([features, (grad - pull @ encoder.T)[None]]))

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
        """All features and the error of the stream at the site, by the names under which a baseline holds
        them.
        """
        x = values[self._site]
        features = self._dictionary.encode(x)
        return {self._site + FEATURES: features, self._site + ERROR: x - self._dictionary.decode(features)}

    def _split(self, x: Float[Tensor, "row pos d_model"]) -> tuple[Tensor, Tensor]:
        features = self._dictionary.encode(x)
        return features[..., self.chosen], x - self._dictionary.decode(features)

    def _difference(
        self, features: Tensor, error: Tensor, nodes: Int[Tensor, "row"]
    ) -> Float[Tensor, "row pos d_model"]:
        """What a change of one feature, or of the error, writes in every row."""
        place = nodes.clamp(max=max(0, len(self.chosen) - 1))
        if not len(self.chosen):
            return error
        one = (
            features[torch.arange(len(nodes)), :, place][..., None]
            * self._dictionary.decoder[self.chosen[place]][:, None]
        )
        return torch.where((nodes < len(self.chosen))[:, None, None], one, error)

    def _site_run(self, pair: Pair) -> SiteRun:
        if self._run is None or self._run[0] is not pair:
            clean, corrupt = (side.values[self._site] for side in (pair.clean, pair.corrupt))
            values = [pair.corrupt.values.get(self._site + part) for part in (FEATURES, ERROR)]
            # a mean or nothing is the same on all prompts; a resampled prompt has a stream of its own
            shared = None if values[0] is None else Baseline(*(value[:1, :1] for value in values))
            self._run = pair, SiteRun(self._dictionary, clean, corrupt, baseline=shared, ablated=pair.ablated)
        return self._run[1]
