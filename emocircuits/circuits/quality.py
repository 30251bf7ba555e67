"""The quality of a circuit, next to what it has to beat: one function for feature, component and mixed
circuits.

F(C) and the ways to ablate are those of `faithfulness`; completeness is F of everything but C (small is
good). Errors of SAEs count as members like others (`chosen`), and beside that are all kept or all ablated, so
that it shows how much of F they carry. Curves take candidates in the order in which circuits are built
(`Graph.order`).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.integrated_gradients import FEATURE_STEPS
from emocircuits.circuits.candidates import Candidates
from emocircuits.circuits.controls import ControlFinder
from emocircuits.circuits.faithfulness import MIB_SHARES, areas, refuse_overlap
from emocircuits.circuits.knockouts import DRAWS, knockouts
from emocircuits.circuits.minimality import minimality
from emocircuits.circuits.scorer import (
    FaithfulnessScorer,
    first_of,
    largest_alike,
    log_sizes,
    random_alike,
)
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.task import Task

CURVE_POINTS, SHORT_CURVE = 10, 6


@dataclass(frozen=True, repr=False)
class CircuitQuality:
    """What a circuit is worth on held-out prompts. F stands for faithfulness.

    Attributes:
        faithfulness, ci_low, ci_high: F of the circuit under `ablation`, with its bootstrap interval over
            prompts.
        completeness: F of everything but the circuit.
        size, errors: members of the circuit, and how many of them are (edges at) error nodes.
        unit: `nodes` or `edges`.
        candidates: how many there were to choose from.
        prompts: held-out prompts.
        ablation: the baseline of all that says no other.
        m_full, m_empty: mean metric with everything and with nothing kept.
        random: F of random circuits, as many members in each site or part: mean, max, values.
        curve: [{size, share, errors, faithfulness, ci_low, ci_high, random, random_low, random_high}] over
            size.
        areas: cpr, cmd and both over log size.
        ablations: name -> {faithfulness, ci_low, ci_high, completeness, m_empty, errors_kept, errors_ablated,
            errors_alone, curves {chosen, kept, ablated}}; what concerns errors only where there are any.
        minimality: see `minimality`; None where it was not asked for.
        knockouts: see `knockouts`; None where it was not asked for.
        controls: `magnitude`, `neuron_basis`, `random_dictionary` -> {size, errors, candidates, faithfulness,
            ci_low, ci_high, curve, errors_ablated}.
    """

    faithfulness: float
    ci_low: float
    ci_high: float
    completeness: float
    size: int
    errors: int
    unit: str
    candidates: int
    prompts: int
    ablation: str
    m_full: float
    m_empty: float
    random: dict[str, Any]
    curve: list[dict[str, Any]]
    areas: dict[str, float]
    ablations: dict[str, dict[str, Any]]
    minimality: dict[str, Any] | None
    knockouts: dict[str, Any] | None
    controls: dict[str, dict[str, Any]]

    @property
    def share(self) -> float:
        """Members of the circuit over candidates."""
        return self.size / self.candidates

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "share": self.share}

    def __repr__(self) -> str:
        return (
            f"CircuitQuality({self.size} of {self.candidates} {self.unit}, {self.prompts} prompts: "
            f"faithfulness {self.faithfulness:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}], completeness "
            f"{self.completeness:.3f}, random {self.random['mean']:.3f}"
            + "".join(f", {name} {one['faithfulness']:.3f}" for name, one in self.controls.items())
            + ")"
        )


@dataclass(frozen=True)
class QualitySettings:
    """How a circuit is scored.

    Attributes:
        sizes: sizes of the curve, besides ten on a logarithmic axis and MIB's shares.
        ablation: baseline of the main scores.
        also: further ablations.
        random_circuits: random circuits of the circuit's size; at least 5.
        curve_random: random circuits at each of `sizes` and of the ten.
        minimal: whether members are left out one by one (as many runs as members).
        knockout_draws: subsets for "same under knockouts"; 0 leaves it out.
        controls: whether the magnitude circuit and, where there are features, other dictionaries are scored.
        steps: midpoints of integrated gradients in other dictionaries.
        seed: seed of draws and intervals.
    """

    sizes: tuple[int, ...] = ()
    ablation: str = "resample"
    also: tuple[str, ...] = ("mean", "zero")
    random_circuits: int = 5
    curve_random: int = 1
    minimal: bool = True
    knockout_draws: int = DRAWS
    controls: bool = True
    steps: int = FEATURE_STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.random_circuits < 5:
            raise UserError(f"{self.random_circuits} random circuits", expected="at least 5")
        for name in (self.ablation, *self.also):
            ABLATIONS.get(name)


def circuit_quality(
    circuit: Collection[Any],
    result: AttributionResult,
    held_out: Task,
    found_on: Task,
    settings: QualitySettings | None = None,
    *,
    ranking: Sequence[str] = (),
) -> CircuitQuality:
    """Scores a circuit on held-out prompts.

    Args:
        circuit: node ids of a feature result; edges (source, slot) or node ids of a component or mixed one.
        result: effects on the find prompts; its nodes, or its edges among components, are the candidates and
            give the rankings.
        held_out: the score prompts; a clean prompt that is among the find prompts, too, is refused.
        found_on: the find prompts, with the SAEs of the result; every site with candidates is ablated.
        settings: how it is scored; by default `QualitySettings()`.
        ranking: candidates that smaller circuits of the curves take first, in this order; the others follow
            in theirs.

    Raises:
        UserError: overlapping prompts, an empty circuit, members the result does not have, or a metric that
            does not differ between full and empty.
    """
    settings = settings or QualitySettings()
    refuse_overlap(found_on.prompts, held_out.prompts)
    candidates = Candidates.of(result, found_on)
    choice = candidates.choice(circuit)
    if not choice.any():
        raise UserError("a circuit without members", expected="at least one node or edge")
    runner = candidates.graph.runner(held_out)
    scorer = FaithfulnessScorer.open(candidates, runner, settings.ablation, settings.seed)
    order = _ranked(candidates, ranking)
    ablations = {settings.ablation: _under(scorer, choice, order)}
    for name in settings.also:
        if name != settings.ablation:
            other = FaithfulnessScorer.open(candidates, runner, name, settings.seed)
            ablations[name] = _under(other, choice, order)
    return CircuitQuality(
        **_main_scores(scorer, choice, order, settings, result),
        size=int(choice.sum()),
        errors=int((choice & candidates.graph.errors).sum()),
        unit=candidates.graph.unit,
        candidates=len(choice),
        prompts=len(scorer.full),
        ablation=settings.ablation,
        m_full=float(scorer.full.mean()),
        m_empty=float(scorer.empty.mean()),
        ablations=ablations,
        minimality=minimality(scorer, choice) if settings.minimal else None,
        knockouts=knockouts(scorer, choice, draws=settings.knockout_draws)
        if settings.knockout_draws
        else None,
        controls=_controls(scorer, choice, order, result, settings) if settings.controls else {},
    )


def _main_scores(
    scorer: FaithfulnessScorer,
    choice: Bool[np.ndarray, "item"],
    order: Int[np.ndarray, "item"],
    settings: QualitySettings,
    result: AttributionResult,
) -> dict[str, Any]:
    candidates, n, draws = scorer.candidates, len(choice), settings.curve_random
    sizes = sorted({min(n, int(size)) for size in (*settings.sizes, *log_sizes(n, CURVE_POINTS))} - {0})
    mean = candidates.effects.mean(0, dtype=np.float64)
    mib = [min(n, round(share * n)) for share in MIB_SHARES]
    toward = np.sign((result.metric_clean - result.metric_corrupt).mean()) or 1.0
    along = first_of(order, sizes, n)
    alike = [
        random_alike(candidates, choice, seed=scorer.seed, draw=draw)
        for draw in range(settings.random_circuits)
    ]
    drawn = [
        random_alike(candidates, row, seed=scorer.seed, draw=draw) for row in along for draw in range(draws)
    ]
    parts = {
        "circuit": choice[None],
        "rest": ~choice[None],
        "random": np.stack(alike),
        "curve": along,
        "absolute": first_of(np.argsort(-np.abs(mean), kind="stable"), mib, n),
        "signed": first_of(np.argsort(-mean * toward, kind="stable"), mib, n),
        "drawn": np.array(drawn).reshape(-1, n),
    }
    kinds = np.repeat(list(parts), [len(rows) for rows in parts.values()])
    # with all candidates kept, what is no candidate is kept, too: the curves end at the model
    rows = np.concatenate(list(parts.values()))
    values = scorer.values(rows, (kinds == "rest") | rows.all(axis=1))
    metric = {kind: values[kinds == kind] for kind in parts}
    random = scorer.f(metric["random"])
    curve = []
    for number, size in enumerate(sizes):
        own = metric["drawn"][number * draws : (number + 1) * draws]
        others = scorer.f(own) if size < n else np.zeros(0)
        curve.append(
            {
                **scorer.point(metric["curve"][number], along[number]),
                "share": size / n,
                "random": float(others.mean()) if len(others) else None,
                "random_low": float(others.min()) if len(others) else None,
                "random_high": float(others.max()) if len(others) else None,
            }
        )
    low, high = scorer.interval(metric["circuit"][0])
    return {
        "faithfulness": float(scorer.f(metric["circuit"])[0]),
        "ci_low": low,
        "ci_high": high,
        "completeness": float(scorer.f(metric["rest"])[0]),
        "random": {"mean": float(random.mean()), "max": float(random.max()), "values": random.tolist()},
        "curve": curve,
        "areas": areas(scorer.f(metric["signed"]), scorer.f(metric["absolute"])),
    }


def _under(scorer: FaithfulnessScorer, choice: Bool[np.ndarray, "item"], order: np.ndarray) -> dict[str, Any]:
    """The circuit and short curves under one ablation, errors counted in three ways."""
    errors, n = scorer.candidates.graph.errors, len(choice)
    ways = ("chosen", "kept", "ablated") if errors.any() else ("chosen",)
    out: dict[str, Any] = {"m_empty": float(scorer.empty.mean()), "curves": {}}
    for way in ways:
        ranked = order if way == "chosen" else order[~errors[order]]
        along = first_of(ranked, log_sizes(len(ranked), SHORT_CURVE), n)
        ends = np.stack([choice, ~choice, np.zeros(n, dtype=bool)])
        rows = np.concatenate([ends, along])
        values = scorer.values(rows, (np.arange(len(rows)) == 1) | rows[:, ~errors].all(axis=1), errors=way)
        out["curves"][way] = [scorer.point(values[3 + number], row) for number, row in enumerate(along)]
        if way == "chosen":
            own = scorer.point(values[0], choice)
            out |= {name: own[name] for name in ("faithfulness", "ci_low", "ci_high")}
            out["completeness"] = float(scorer.f(values[1]))
        else:
            out[f"errors_{way}"] = float(scorer.f(values[0]))
        if way == "kept":
            out["errors_alone"] = float(scorer.f(values[2]))
    return out


def _ranked(candidates: Candidates, first: Sequence[str]) -> Int[np.ndarray, "item"]:
    place = {name: number for number, name in enumerate(candidates.graph.items)}
    usual = candidates.graph.order(candidates.effects)
    head = np.array([place[name] for name in first if name in place], dtype=np.int64)
    return np.concatenate([head, usual[~np.isin(usual, head)]])


def _controls(
    scorer: FaithfulnessScorer,
    choice: Bool[np.ndarray, "item"],
    order: Int[np.ndarray, "item"],
    result: AttributionResult,
    settings: QualitySettings,
) -> dict[str, dict[str, Any]]:
    candidates, size = scorer.candidates, int(choice.sum())
    found_on, sizes = candidates.graph.task, log_sizes(len(choice), SHORT_CURVE)
    magnitudes = candidates.graph.magnitudes()
    smaller = first_of(order, sizes, len(choice))
    rows = np.stack([largest_alike(candidates, row, magnitudes) for row in (choice, *smaller)])
    out = {"magnitude": _control(scorer, rows)}
    if not found_on.saes:
        return out
    finder = ControlFinder(found_on, result, settings.steps)
    for name, dictionaries in finder.controls(scorer.seed).items():
        task = found_on.with_saes(dictionaries)
        others = Candidates.of(finder.find(task), task)
        runner = others.graph.runner(scorer.runner.task.with_saes(dictionaries))
        other, n = (
            FaithfulnessScorer.open(others, runner, scorer.ablation, scorer.seed),
            len(others.graph.items),
        )
        asked = [min(size, n), *log_sizes(n, SHORT_CURVE)]
        out[name] = _control(other, first_of(others.graph.order(others.effects), asked, n))
    return out


def _control(scorer: FaithfulnessScorer, rows: Bool[np.ndarray, "circuit item"]) -> dict[str, Any]:
    values = scorer.values(rows, rows.all(axis=1))
    points = [scorer.point(value, row) for value, row in zip(values, rows, strict=True)]
    out = {**points[0], "candidates": rows.shape[1], "curve": points[1:]}
    if scorer.candidates.graph.errors.any():
        out["errors_ablated"] = float(scorer.f(scorer.values(rows[:1], errors="ablated"))[0])
    return out
