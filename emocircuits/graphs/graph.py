"""What a graph is: nodes, the slots that edges end in, and what passes over a batch say about them.

Two kinds follow this protocol. A `ComponentGraph` has embeddings, heads, MLPs and SAE features among them;
its edges are direct: what a node writes and one slot alone reads. A `FeatureGraph` has SAE features and
errors; its edges run through everything between two adjacent sites. Every attribution method, the search,
verification and the scores of circuits are written against the protocol.
"""

from collections.abc import Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.graphs.edge_products import EdgeProducts
from emocircuits.graphs.parts import Reader, Writer
from emocircuits.passes.prompt_pairs import PairBatch
from emocircuits.passes.record import CleanCorrupt
from emocircuits.passes.task import Task

BACKGROUNDS = ("corrupt", "clean")
ERRORS = ("chosen", "kept", "ablated")
Choices = Bool[np.ndarray, "circuit item"]


@runtime_checkable
class Linear(Protocol):
    """Both runs of a batch with gradients: effects to first order.

    Attributes:
        sides: both runs.
        passes: forward and backward passes spent, those of the two sides among them.
        edge_passes: backward passes that `edge_effects` takes; a batched one counts one.
    """

    sides: CleanCorrupt
    passes: float
    edge_passes: float

    def node_effects(self) -> Float[Tensor, "prompt node"]:
        """Effect of every node."""
        ...

    def edge_effects(self) -> Float[Tensor, "prompt edge"]:
        """Effect of every edge, in the order of the graph's `pairs`."""
        ...


@runtime_checkable
class Patcher(Protocol):
    """Real patches in one batch.

    Attributes:
        sides: both runs.
        rows: how many prompts were run so far, over all patches.
    """

    sides: CleanCorrupt
    rows: int

    def nodes(self, nodes: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt node"]:
        """Effects of some nodes, each patched alone.

        Args:
            nodes: their numbers.
            background: `corrupt` (the clean value is put into the corrupt run) or `clean` (what the clean run
                loses by the corrupt value). Prompts with a reference are patched in the clean run, whatever
                is asked for.
        """
        ...

    def slots(self, slots: Sequence[int], background: str = "corrupt") -> Float[Tensor, "prompt slot"]:
        """Effects of some slots that take what they hold in the other run."""
        ...

    def edges(
        self, edges: Sequence[tuple[int, int]], background: str = "corrupt"
    ) -> Float[Tensor, "prompt edge"]:
        """Effects of some edges, given as (node, slot)."""
        ...

    def together(
        self, node: int, slots: Sequence[int], background: str = "corrupt"
    ) -> Float[Tensor, "prompt"]:
        """Effect when several slots of one group read what a node's change writes."""
        ...

    def changed(self) -> Bool[np.ndarray, "node"]:
        """Which nodes write something else on the clean than on the corrupt run, on any prompt."""
        ...

    def busy(self, edges: Sequence[tuple[int, int]], background: str = "corrupt") -> Bool[np.ndarray, "edge"]:
        """Which edges may let their slot read anything new; the others have no effect, and no pass is needed
        to know.
        """
        ...


@runtime_checkable
class CircuitRunner(Protocol):
    """Circuits of a graph run for real on the prompts of a task.

    Attributes:
        task: the prompts and the metric.
    """

    task: Task

    def run(
        self,
        choices: Choices,
        rest: Bool[np.ndarray, "circuit"] | None = None,
        *,
        ablation: str = "resample",
        errors: str = "chosen",
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The metric under each circuit, prompts in the order of their index.

        Args:
            choices: which items of the graph each circuit keeps.
            rest: whether it keeps what is no item, too; by default not.
            ablation: what all else is set to (`interventions.ablate.ABLATIONS`).
            errors: `chosen` (as the choice says), `kept` (all error nodes) or `ablated` (all).
        """
        ...


@runtime_checkable
class Graph(Protocol):
    """Nodes, slots and edges over the prompts of a task.

    Attributes:
        task: the model, its SAEs, the prompts and the metric.
        nodes: ids of all nodes.
        slots: ids of all slots; the last one is the logits.
        pairs: node and slot of every edge.
        unit: what a circuit is a set of, its items: `nodes` or `edges`.
        items: their names; edges as `source -> slot`.
        groups: random circuits have as many items in each group as the circuit.
        errors: which items are error nodes, or edges that leave or enter one.
        slot_groups: per slot, labels from the coarse to the fine: slots of one label can be patched together.
    """

    task: Task
    unit: str

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes."""
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the places that edges lead to."""
        ...

    @property
    def pairs(self) -> tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"]]:
        """All edges as places of their node and of their slot."""
        ...

    @property
    def items(self) -> tuple[str, ...]:
        """What a circuit chooses among: nodes, or edges as `source -> slot`."""
        ...

    @property
    def groups(self) -> Int[np.ndarray, "item"]:
        """Random circuits have as many items in each group as the circuit."""
        ...

    @property
    def errors(self) -> Bool[np.ndarray, "item"]:
        """Which items are error nodes, or edges that leave or enter one."""
        ...

    @property
    def slot_groups(self) -> tuple[Int[np.ndarray, "slot"], ...]:
        """Per slot, labels from the coarse to the fine: slots of one label can be patched together."""
        ...

    def feeds(self) -> Bool[np.ndarray, "slot node"]:
        """Which nodes each slot is read for."""
        ...

    def both_sides(self, batch: PairBatch, *, gradient: bool = False, edges: bool = False) -> CleanCorrupt:
        """Runs both sides of a batch.

        Args:
            batch: prompts of the task.
            gradient: whether the live run is differentiated, for `linear(sides, steps=0)`.
            edges: whether edges will be asked for.
        """
        ...

    def linear(self, sides: CleanCorrupt, *, steps: int = 0, edges: bool = False) -> Linear:
        """Gradients of the live run (`steps` 0), or averaged over so many midpoints from corrupt to clean."""
        ...

    def patcher(self, sides: CleanCorrupt) -> Patcher:
        """Ready to patch in a batch."""
        ...

    def runner(self, task: Task | None = None) -> CircuitRunner:
        """Ready to run circuits on the prompts of another task about the same model, by default its own."""
        ...

    def order(self, effects: Float[np.ndarray, "prompt item"]) -> Int[np.ndarray, "item"]:
        """Items in the order in which circuits of growing size take them."""
        ...

    def magnitudes(self) -> Float[np.ndarray, "item"]:
        """How much each item changes between clean and corrupt, gradients aside; mean over prompts."""
        ...

    def choice(self, members: Collection[Any]) -> Bool[np.ndarray, "item"]:
        """A circuit as booleans over the items.

        Raises:
            UserError: a member that the graph does not have.
        """
        ...


@runtime_checkable
class PartsGraph(Graph, Protocol):
    """A graph whose nodes and slots belong to parts of the model.

    Attributes:
        writers: in the order in which they write.
        readers: in the order in which they read.
        products: what the nodes write against what the slots read.
        max_tokens: tokens per pass.
    """

    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]

    @property
    def products(self) -> EdgeProducts:
        """What the nodes write against what the slots read."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens per pass."""
        ...

    def writer_of(self, node: int) -> tuple[Writer, int]:
        """The writer of a node, and which of its nodes it is."""
        ...

    def reader_of(self, slot: int) -> tuple[Reader, int]:
        """The reader of a slot, and which of its slots it is."""
        ...

    def seen_by(self, reader: Reader) -> slice:
        """Which of the nodes a reader sees."""
        ...


def chosen_among(names: Sequence[str], wanted: Collection[str]) -> Bool[np.ndarray, "item"]:
    """Names as booleans.

    Raises:
        UserError: a name that is not among them.
    """
    strange = sorted(set(wanted) - set(names))
    if strange:
        raise UserError(
            f"the circuit has {strange[0]}, which the attribution does not have",
            expected="nodes and edges of the result it was found in",
        )
    return np.array([name in wanted for name in names])
