"""What a circuit consists of when it is to be run."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.errors import UserError


def member_nodes(circuit: CircuitGraph) -> list[str]:
    """Ids of all nodes and slots but the metric.

    Raises:
        UserError: an empty circuit, or nodes at single positions.
    """
    nodes = [node for node in circuit.nodes if node.kind != "target"]
    if not nodes:
        raise UserError(
            f"the circuit of {circuit.behaviour or 'this behaviour'} is empty", expected="at least one node"
        )
    if any(node.position is not None for node in nodes):
        raise UserError(
            "a circuit of nodes at single positions",
            expected="nodes over all positions",
            cure="use the circuit itself, not its example on one prompt",
        )
    return [node.id for node in nodes]


def member_sites(circuit: CircuitGraph) -> list[str]:
    """Sites of the SAEs that the circuit was chosen from: what else happens there is outside it."""
    own = [node.site for node in circuit.nodes if node.site is not None]
    return list(dict.fromkeys([*circuit.conventions.get("sites", ()), *own]))


def member_edges(circuit: CircuitGraph) -> tuple[tuple[str, str], ...]:
    """The edges (source, slot) of a component or mixed circuit, without the links from slots to
    their heads.
    """
    return tuple((edge.source, edge.target) for edge in circuit.edges if "<" not in edge.source)
