"""The registry of attribution methods. One card says what a method can do for the Python API, the recipe and
the docs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.push import Push
from emocircuits.errors import UserError
from emocircuits.passes.task import Task
from emocircuits.registry import Registry

NODES = ("features", "components", "mixed")
MAX_FEATURES = 100
CONVENTIONS = {
    "sign": "positive: patching the clean value into the corrupt run raises the metric",
    "gradient": "corrupt run",
    "baseline": "corrupt prompt (resample)",
}


@dataclass(frozen=True, eq=False)
class Request:
    """What `attribute` was asked.

    Attributes:
        task: the model, prompts, metric and SAEs.
        nodes: `features`, `components` or `mixed`.
        edges: whether edges are wanted, too.
        positions: one node per token position instead of the sum over positions.
        steps: points of an integral; None takes the method's own.
        max_features: most features that edges are drawn among, the strongest ones.
        budget: passes that a search may spend; None takes the method's own.
        push: the direction of steering; None takes the mean difference of clean and corrupt streams.
        seed: seed of what is drawn.
    """

    task: Task
    nodes: str = "features"
    edges: bool = True
    positions: bool = False
    steps: int | None = None
    max_features: int = MAX_FEATURES
    budget: int | None = None
    push: Push | None = None
    seed: int = 0


@dataclass(frozen=True)
class MethodCard:
    """An attribution method.

    Attributes:
        name: its name.
        summary: one line.
        formula: what an effect is.
        gradient: where the gradient is taken.
        passes: what it costs.
        source: where it comes from.
        run: answers a request.
        positions: whether it attributes features at single positions.
        references: whether it compares nodes with a reference where prompts have no partner.
        pairs: whether effects say what clean values do in the corrupt run, so that a circuit can be chosen
            by them.
        steps: points of its integral, per kind of nodes; empty where it integrates nothing.
    """

    name: str
    summary: str
    formula: str
    gradient: str
    passes: str
    source: str
    run: Callable[[Request], AttributionResult]
    positions: bool = False
    references: bool = True
    pairs: bool = True
    steps: tuple[tuple[str, int], ...] = ()

    def refuse(self, request: Request) -> None:
        """Raises UserError where the method cannot do what is asked."""
        if request.nodes not in NODES:
            raise UserError(f"nodes='{request.nodes}'", expected=", ".join(NODES))
        if request.positions and (request.nodes != "features" or not self.positions):
            able = [card.name for card in METHODS if card.positions]
            raise UserError(
                f"nodes at single positions for nodes='{request.nodes}', method='{self.name}'",
                expected=f"nodes='features' and one of {', '.join(able)}",
            )
        if not self.references and any(group.reference for group in request.task.prompts.groups):
            raise UserError(
                f"{self.name} with a baseline",
                expected="the unsteered run, which is its baseline",
                cure="leave `baseline` out",
            )

    def steps_for(self, request: Request) -> int:
        """Points of the integral of a request; 0 where the method integrates nothing.

        Raises:
            UserError: no point.
        """
        own = dict(self.steps).get(request.nodes, dict(self.steps).get("components", 0))
        if request.steps is None or not self.steps:
            return own
        if request.steps < 1:
            raise UserError(f"{self.name} over {request.steps} steps", expected="at least 1")
        return request.steps


METHODS: Registry[MethodCard] = Registry("attribution method")


def with_reference(result: AttributionResult, task: Task) -> AttributionResult:
    """The result with what it says about baselines, where prompts have no partner."""
    names = {group.reference.ablation for group in task.prompts.groups if group.reference is not None}
    if not names:
        return result
    about = dict(result.conventions)
    gradient = about.get("gradient", "")
    if "between the corrupt and the clean" in gradient or "from corrupt to clean" in gradient:
        gradient = gradient.replace("corrupt", "baseline's", 1) if "the corrupt" in gradient else gradient
        gradient = gradient.replace("from corrupt to clean", "from the baseline to clean")
    else:
        gradient = gradient.replace("corrupt run", "clean run").replace("corrupt", "clean")
    about |= {
        "baseline": f"{', '.join(sorted(names))}, no aligned pair",
        "gradient": gradient,
        "sign": "positive: the node's clean value instead of its baseline raises the metric",
    }
    return replace(result, conventions=about)
