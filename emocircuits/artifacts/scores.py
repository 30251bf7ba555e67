"""What a run measured about one circuit on held-out prompts; `scores.json` holds this for every behaviour.

A number has one name, from the computation through `scores.json` to the page. F stands for faithfulness: the
share of the metric's change that is left when everything outside the circuit is ablated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from emocircuits.errors import UserError


@dataclass(frozen=True)
class CircuitPoint:
    """F of one circuit.

    Attributes:
        size: its members.
        errors: how many of them are error nodes.
        faithfulness, ci_low, ci_high: F with its bootstrap interval over prompts.
    """

    size: int
    errors: int
    faithfulness: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class CurvePoint(CircuitPoint):
    """A point of the curve over sizes, next to random circuits of that size.

    Attributes:
        fraction: size over candidates.
        random_mean, random_low, random_high: F of the random circuits; None where all candidates are kept.
    """

    fraction: float
    random_mean: float | None = None
    random_low: float | None = None
    random_high: float | None = None


@dataclass(frozen=True)
class AblationScores:
    """The circuit under one ablation.

    Attributes:
        faithfulness, ci_low, ci_high: F with its interval.
        completeness: F of everything but the circuit.
        m_empty: mean metric with nothing kept.
        curves: how errors are counted (`chosen`, `kept`, `ablated`) -> F over sizes.
        errors_kept, errors_ablated, errors_alone: F with all errors kept, with none, and of the errors alone;
            None where there are no errors.
    """

    faithfulness: float
    ci_low: float
    ci_high: float
    completeness: float
    m_empty: float
    curves: dict[str, tuple[CircuitPoint, ...]]
    errors_kept: float | None = None
    errors_ablated: float | None = None
    errors_alone: float | None = None


@dataclass(frozen=True)
class ControlScores(CircuitPoint):
    """A circuit chosen in another way, as many members.

    Attributes:
        candidates: how many there were to choose from.
        curve: F over sizes.
        errors_ablated: F without its errors; None where there are none.
    """

    candidates: int
    curve: tuple[CircuitPoint, ...]
    errors_ablated: float | None = None


@dataclass(frozen=True)
class Minimality:
    """Whether anything in the circuit is superfluous.

    Attributes:
        redundant_share: share of members that can go alone with a loss of F below `tolerance`.
        tolerance: that loss.
        losses: member -> loss of F without it.
        minimal: members that are left when as many as possible go together.
        minimal_size, minimal_faithfulness: how many they are, and their F.
    """

    redundant_share: float
    tolerance: float
    losses: dict[str, float]
    minimal_size: int
    minimal_faithfulness: float
    minimal: tuple[str, ...]


@dataclass(frozen=True)
class Knockout:
    """F of the circuit and of the whole model without `size` members of the circuit."""

    size: int
    circuit: float
    model: float


@dataclass(frozen=True)
class Knockouts:
    """Whether circuit and model lose as much: the gaps between them, and every draw."""

    mean_gap: float
    largest_gap: float
    points: tuple[Knockout, ...]


@dataclass(frozen=True)
class EffectAgreement:
    """How well attributed effects predict real ones.

    Attributes:
        nodes: nodes compared.
        pearson: correlation over nodes.
        slope: least squares through the origin of exact on attributed effects.
        sign_agreement: share of the strong nodes whose signs agree.
        strong_nodes: nodes whose exact effect is at least 1 % of the metric's change.
    """

    nodes: int
    pearson: float
    slope: float
    sign_agreement: float
    strong_nodes: int


@dataclass(frozen=True)
class ExactPoint:
    """The attributed effect of a node and its exact one: what the clean value brings in the corrupt run
    (`denoise`), what the clean run loses by the corrupt value (`noise`), and their mean.
    """

    node: str
    predicted: float
    exact: float
    denoise: float
    noise: float


@dataclass(frozen=True)
class AttributionExact:
    """Attribution against real interventions: with their mean, with each kind of them, and node by node."""

    pearson: float
    slope: float
    sign_agreement: float
    n: int
    strong_nodes: int
    denoise: EffectAgreement
    noise: EffectAgreement
    points: tuple[ExactPoint, ...]


@dataclass(frozen=True)
class Stability:
    """How alike circuits from resampled prompts are.

    Attributes:
        jaccard: with the circuit itself.
        pairwise_jaccard: with each other.
        rank_correlation: of their effects.
        resamples, nodes: how many circuits of how many nodes.
    """

    jaccard: float
    pairwise_jaccard: float
    rank_correlation: float
    resamples: float
    nodes: float


@dataclass(frozen=True)
class Rate:
    """How often the model does it; `true_rate` where the world that made the prompts is known. `coverage` is
    the probability of the behaviour's and the honest words together, of which the rate is a share.
    `first_option`, of a choice in both orders, is how often the first option is chosen, whatever it is: the
    order bias.
    """

    rate: float
    ci_low: float
    ci_high: float
    true_rate: float | None = None
    coverage: float | None = None
    first_option: float | None = None


@dataclass(frozen=True)
class Rates:
    """Rates on `n` score prompts: clean, corrupt, and without pressure (`baseline`)."""

    n: int
    clean: Rate
    corrupt: Rate
    baseline: Rate

    @property
    def sides(self) -> dict[str, Rate]:
        """The three by name."""
        return {"clean": self.clean, "corrupt": self.corrupt, "baseline": self.baseline}


@dataclass(frozen=True)
class CircuitScores:
    """The scores of one behaviour's circuit.

    Attributes:
        faithfulness, faithfulness_ci: F with its interval.
        random_circuit_faithfulness, random_values: mean F of random circuits as large, and each of them.
        completeness: F of everything but the circuit.
        cpr, cmd, cpr_log, cmd_log: areas under the curve and between it and 1, over size and over log size.
        faithfulness_curve: F over sizes.
        nodes, error_nodes: members of the circuit, and how many of them are error nodes.
        candidates, active_nodes: nodes to choose from, and nodes that fire at all.
        ablation: the baseline of all that says no other.
        score_prompts: held-out prompts.
        m_full, m_empty: mean metric with everything and with nothing kept.
        ablations: the same under every ablation.
        controls: circuits chosen in other ways.
        attribution_exact: attribution against real interventions.
        sites: where the circuit is scored.
        stability: under resampled prompts.
        rates: of the behaviour.
        minimality, knockouts: None where they were not asked for.
    """

    faithfulness: float
    faithfulness_ci: tuple[float, float]
    random_circuit_faithfulness: float
    random_values: tuple[float, ...]
    completeness: float
    cpr: float
    cmd: float
    cpr_log: float
    cmd_log: float
    faithfulness_curve: tuple[CurvePoint, ...]
    nodes: int
    error_nodes: int
    candidates: int
    active_nodes: int
    ablation: str
    score_prompts: int
    m_full: float
    m_empty: float
    ablations: dict[str, AblationScores]
    controls: dict[str, ControlScores]
    attribution_exact: AttributionExact
    sites: tuple[str, ...]
    stability: Stability
    rates: Rates
    minimality: Minimality | None = None
    knockouts: Knockouts | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what was not measured is left out."""
        return _plain(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "CircuitScores":
        """The inverse of `to_dict`.

        Raises:
            UserError: a number is missing or is no number; the message names it.
        """
        return _typed(cls, value, "")


def read_scores(document: Mapping[str, Any]) -> dict[str, CircuitScores]:
    """The content of `scores.json`, by behaviour."""
    return {behaviour: CircuitScores.from_dict(value) for behaviour, value in document.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        items = {part.name: getattr(value, part.name) for part in fields(value)}
        return {name: _plain(item) for name, item in items.items() if item is not None}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A value of a JSON document as the type that a field asks for."""
    outer, inner = get_origin(kind), get_args(kind)
    if outer is UnionType:
        return None if value is None else _typed(inner[0], value, where)
    if outer is dict and isinstance(value, Mapping):
        return {name: _typed(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if outer is tuple and isinstance(value, list | tuple):
        return tuple(_typed(inner[0], item, where) for item in value)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _built(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if outer is not None or type(value) is not kind:
        raise _broken(f"{where.lstrip('.')} is {value!r}")
    return value


def _built(kind: type, value: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = [part.name for part in fields(kind) if part.name in value]
    try:
        return kind(**{name: _typed(hints[name], value[name], f"{where}.{name}") for name in known})
    except TypeError as error:
        raise _broken(f"{where.lstrip('.') or 'an entry'} is not whole ({error})") from error


def _broken(what: str) -> UserError:
    return UserError(f"scores.json: {what}", cure="run the stage 'evaluate' again")
