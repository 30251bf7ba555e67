"""Which nodes become a circuit; the `[circuit]` table of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

from emocircuits.errors import UserError
from emocircuits.names import depth_of
from emocircuits.settings import check, setting


@dataclass(frozen=True)
class CircuitSettings:
    """Which nodes become the circuit."""

    from_depth: float = setting(
        0.5,
        "the circuit starts after this fraction of depth; what lies before is left whole",
        least=0,
        most=1,
    )
    max_share: float = setting(
        0.05, "most nodes, as a share of those active on the find prompts", above=0, most=1
    )
    max_nodes: int = setting(200, "most nodes", unit="nodes", least=1)
    rounds: int = setting(6, "how often nodes are scored again around the circuit so far", least=1)
    edge_threshold: float = setting(
        0.002, "smallest effect of an edge, as a share of the mean change of the metric", least=0
    )
    max_edges: int = setting(400, "most edges; each is patched for real", unit="edges", least=1)

    def __post_init__(self) -> None:
        check(self, "circuit")

    def sites(self, sites: Sequence[str], n_layers: int) -> tuple[str, ...]:
        """The sites that a circuit covers.

        Args:
            sites: those that are looked at.
            n_layers: blocks of the model.

        Raises:
            UserError: none is left.
        """
        after = tuple(site for site in sites if depth_of(site, n_layers) > self.from_depth + 1e-9)
        if not after:
            raise UserError(
                f"circuit.from_depth {self.from_depth} leaves no site of {', '.join(sites)}",
                expected="below the depth of the last layer that is looked at",
            )
        return after
