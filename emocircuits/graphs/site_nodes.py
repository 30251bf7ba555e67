"""Node ids of one site as index arrays, and what those nodes contribute under a gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int

from emocircuits.errors import UserError
from emocircuits.graphs.site_run import SiteRun
from emocircuits.names import parse_node
from emocircuits.sae.dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class SiteNodes:
    """The chosen nodes of one site.

    Attributes:
        ids: node ids.
        feature: feature index, -1 for the error node.
        position: token position, -1 for all positions together.
    """

    ids: tuple[str, ...]
    feature: Int[torch.Tensor, "node"]
    position: Int[torch.Tensor, "node"]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, chosen: slice | Sequence[int]) -> "SiteNodes":
        """Some of the nodes."""
        places = range(len(self))[chosen] if isinstance(chosen, slice) else chosen
        where = torch.tensor(list(places), dtype=torch.long, device=self.feature.device)
        return SiteNodes(
            tuple(self.ids[place] for place in places), self.feature[where], self.position[where]
        )


def nodes_by_site(nodes: Sequence[str], dictionaries: Mapping[str, Dictionary]) -> dict[str, SiteNodes]:
    """Feature and error nodes grouped by site, in the order of the layers.

    Raises:
        UserError: a node of another kind, at a site without SAE, or of a feature the SAE does not have.
    """
    groups: dict[str, list[tuple[str, int, int]]] = {site: [] for site in dictionaries}
    for text in nodes:
        node = parse_node(text)
        if node.kind not in ("feature", "error"):
            raise UserError(f"the node {text} is a {node.kind}", expected="feature and error nodes")
        if node.site not in groups:
            raise UserError(f"the node {text} lies at a site without SAE", expected=", ".join(groups))
        if node.feature is not None and node.feature >= dictionaries[node.site].d_sae:
            raise UserError(
                f"the node {text} lies outside its SAE",
                expected=f"a feature below {dictionaries[node.site].d_sae}",
            )
        feature = -1 if node.feature is None else node.feature
        groups[node.site].append((text, feature, -1 if node.position is None else node.position))
    return {
        site: SiteNodes(
            tuple(text for text, _, _ in group),
            _whole(group, 1, dictionaries[site]),
            _whole(group, 2, dictionaries[site]),
        )
        for site, group in groups.items()
    }


def _whole(group: list[tuple[str, int, int]], part: int, dictionary: Dictionary) -> torch.Tensor:
    return torch.tensor([entry[part] for entry in group], dtype=torch.long, device=dictionary.decoder.device)


def contributions(
    run: SiteRun, nodes: SiteNodes, grads: Float[torch.Tensor, "seed prompt pos d_model"]
) -> Float[torch.Tensor, "seed prompt node"]:
    """<clean - corrupt value of each node, gradient>, summed over the node's positions."""
    used = nodes.feature[nodes.feature >= 0].unique()
    per_feature = (grads @ run.dictionary.decoder[used].T) * run.columns(used)
    per_error = (grads * run.delta_error).sum(-1, keepdim=True)
    table = torch.cat([per_feature, per_error], dim=-1)
    column = torch.where(nodes.feature < 0, len(used), torch.searchsorted(used, nodes.feature))
    everywhere = nodes.position < 0
    out = table.sum(2)[..., column]
    if bool(everywhere.all()):
        return out
    length = table.shape[2]
    inside = (nodes.position < length).to(out.dtype)
    at = table[:, :, nodes.position.clamp(0, length - 1), column] * inside
    return torch.where(everywhere, out, at)


@dataclass(frozen=True, eq=False)
class Writes:
    """What nodes of one site write into its stream when they change, of which few rows are needed at once.

    Attributes:
        amount: how much of its direction each node writes; of the error 1 where it changes, else 0.
        direction: decoder rows.
        error: the change of the error.
        is_error: which nodes are the error.
    """

    amount: Float[torch.Tensor, "node prompt pos"]
    direction: Float[torch.Tensor, "node d_model"]
    error: Float[torch.Tensor, "prompt pos d_model"]
    is_error: Bool[torch.Tensor, "node"]

    @classmethod
    def of(
        cls,
        dictionary: Dictionary,
        nodes: SiteNodes,
        change: Float[torch.Tensor, "prompt pos node"],
        error: Float[torch.Tensor, "prompt pos d_model"],
    ) -> "Writes":
        """Writes of nodes at their own positions.

        Args:
            dictionary: the SAE.
            nodes: the nodes.
            change: how much their features change (any value for the error node).
            error: how much the error changes.
        """
        is_error = nodes.feature < 0
        moved = (error != 0).any(-1).to(change.dtype)
        amount = torch.where(is_error[:, None, None], moved[None], change.permute(2, 0, 1))
        amount = amount * position_mask(nodes, error.shape[1])[:, None].to(change.dtype)
        return cls(amount, dictionary.decoder[nodes.feature.clamp(min=0)], error, is_error)

    @classmethod
    def of_stream(cls, change: Float[torch.Tensor, "prompt pos d_model"]) -> "Writes":
        """A change of the stream itself, as one node."""
        moved = (change != 0).any(-1).to(change.dtype)
        whole = torch.ones(1, dtype=torch.bool, device=change.device)
        return cls(moved[None], change.new_zeros(1, change.shape[-1]), change, whole)

    def __len__(self) -> int:
        return len(self.amount)

    def times(self, sign: int) -> "Writes":
        """The same with this sign."""
        return replace(self, amount=sign * self.amount)

    def rows(
        self, node: Int[torch.Tensor, "row"], prompt: Int[torch.Tensor, "row"]
    ) -> Float[torch.Tensor, "row pos d_model"]:
        """What some nodes write on some prompts."""
        out = self.amount[node, prompt][..., None] * self.direction[node][:, None]
        error = self.is_error[node].nonzero()[:, 0]
        if len(error):
            out[error] = self.amount[node[error], prompt[error]][..., None] * self.error[prompt[error]]
        return out

    def dense(self) -> Float[torch.Tensor, "node prompt pos d_model"]:
        """What all nodes write on all prompts."""
        node, prompt = torch.ones(self.amount.shape[:2], device=self.amount.device).nonzero(as_tuple=True)
        return self.rows(node, prompt).view(*self.amount.shape, -1)


def deltas(run: SiteRun, nodes: SiteNodes) -> Writes:
    """What patching each node from corrupt to clean adds to the stream."""
    change = run.columns(nodes.feature.clamp(min=0))
    return Writes.of(run.dictionary, nodes, change, run.delta_error)


def position_mask(nodes: SiteNodes, length: int) -> torch.Tensor:
    """Which positions each node covers, bool (node, pos)."""
    return (nodes.position < 0)[:, None] | (
        nodes.position[:, None] == torch.arange(length, device=nodes.position.device)
    )
