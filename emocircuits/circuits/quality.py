"""The quality of a circuit, next to what it has to beat: one function for feature, component and mixed
circuits.

F(C) and the ways to ablate are those of `faithfulness`; completeness is F of everything but C (small is
good). Errors of SAEs count as members like others (`chosen`), and beside that are all kept or all ablated, so
that it shows how much of F they carry. Curves take candidates in the order in which circuits are built
(`Candidates.order`).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.attribution.methods.integrated_gradients import STEPS
from emocircuits.circuits.candidates import Candidates, candidates_of
from emocircuits.circuits.controls import Refinder
from emocircuits.circuits.faithfulness import MIB_SHARES, areas, refuse_overlap
from emocircuits.circuits.judge import Judge, first_of, largest_alike, log_sizes, random_alike
from emocircuits.circuits.knockouts import DRAWS, knockouts
from emocircuits.circuits.minimality import minimality
from emocircuits.errors import UserError
from emocircuits.interventions.ablate import ABLATIONS
from emocircuits.passes.pairs import DEFAULT_MAX_TOKENS, Metric, PairBatch

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


def circuit_quality(
    model: Any,
    batches: Sequence[PairBatch],
    metric: Metric,
    result: AttributionResult,
    circuit: Collection[Any],
    *,
    found_on: Sequence[PairBatch],
    saes: Any = None,
    sizes: Sequence[int] = (),
    ablation: str = "resample",
    also: Sequence[str] = ("mean", "zero"),
    random_circuits: int = 5,
    curve_random: int = 1,
    minimal: bool = True,
    knockout_draws: int = DRAWS,
    controls: bool = True,
    ranking: Sequence[str] = (),
    steps: int = STEPS,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> CircuitQuality:
    """Scores a circuit on held-out prompts.

    Args:
        model: any TransformerLens object.
        batches: the score prompts.
        metric: logits -> one value per prompt.
        result: effects on the find prompts; its nodes, or its edges among components, are the candidates and
            give the rankings.
        circuit: node ids of a feature result; edges (source, slot) or node ids of a component or mixed one.
        found_on: the find prompts; a clean prompt in both sets is refused.
        saes: site -> SAE, where the result has features; every site with candidates is ablated.
        sizes: sizes of the curve, besides ten on a logarithmic axis and MIB's shares.
        ablation: baseline of the main scores.
        also: further ablations.
        random_circuits: random circuits of the circuit's size; at least 5.
        curve_random: random circuits at each of `sizes` and of the ten.
        minimal: whether members are left out one by one (as many runs as members).
        knockout_draws: subsets for "same under knockouts"; 0 leaves it out.
        controls: whether the magnitude circuit and, where there are features, other dictionaries are judged.
        ranking: candidates that smaller circuits of the curves take first, in this order; the others follow
            in theirs.
        steps: midpoints of integrated gradients in other dictionaries.
        seed: seed of draws and intervals.
        max_tokens: tokens per pass.

    Raises:
        UserError: overlapping prompts, too few random circuits, an empty circuit, members the result does not
            have, or a metric that does not differ between full and empty.
    """
    if random_circuits < 5:
        raise UserError(f"{random_circuits} random circuits", expected="at least 5")
    for name in (ablation, *also):
        ABLATIONS.get(name)
    refuse_overlap(found_on, batches)
    candidates = candidates_of(model, result, batches, saes, max_tokens=max_tokens)
    choice = candidates.choice(circuit)
    if not choice.any():
        raise UserError("a circuit without members", expected="at least one node or edge")
    runs = candidates.on(batches, metric)
    judge = Judge.open(candidates, runs, ablation, seed)
    n, order = len(choice), _ranked(candidates, ranking)
    curve_sizes = sorted({min(n, int(size)) for size in (*sizes, *log_sizes(n, CURVE_POINTS))} - {0})
    main = _main_scores(judge, choice, order, curve_sizes, random_circuits, curve_random, result)
    ablations = {ablation: _under(judge, choice, order)}
    ablations |= {
        name: _under(Judge.open(candidates, runs, name, seed), choice, order)
        for name in also
        if name != ablation
    }
    return CircuitQuality(
        **main,
        size=int(choice.sum()),
        errors=int((choice & candidates.errors).sum()),
        unit=candidates.unit,
        candidates=n,
        prompts=len(judge.full),
        ablation=ablation,
        m_full=float(judge.full.mean()),
        m_empty=float(judge.empty.mean()),
        ablations=ablations,
        minimality=minimality(judge, choice) if minimal else None,
        knockouts=knockouts(judge, choice, draws=knockout_draws) if knockout_draws else None,
        controls=_controls(judge, choice, order, model, batches, found_on, metric, result, steps, max_tokens)
        if controls
        else {},
    )


def _main_scores(
    judge: Judge,
    choice: Bool[np.ndarray, "item"],
    order: np.ndarray,
    sizes: Sequence[int],
    n_random: int,
    curve_random: int,
    result: AttributionResult,
) -> dict[str, Any]:
    candidates, n = judge.candidates, len(choice)
    mean = candidates.effects.mean(0, dtype=np.float64)
    mib = [min(n, round(share * n)) for share in MIB_SHARES]
    toward = np.sign((result.metric_clean - result.metric_corrupt).mean()) or 1.0
    along = first_of(order, sizes, n)
    parts = {
        "circuit": choice[None],
        "rest": ~choice[None],
        "random": np.stack(
            [random_alike(candidates, choice, seed=judge.seed, draw=draw) for draw in range(n_random)]
        ),
        "curve": along,
        "absolute": first_of(np.argsort(-np.abs(mean), kind="stable"), mib, n),
        "signed": first_of(np.argsort(-mean * toward, kind="stable"), mib, n),
        "drawn": np.array(
            [
                random_alike(candidates, row, seed=judge.seed, draw=draw)
                for row in along
                for draw in range(curve_random)
            ]
        ).reshape(-1, n),
    }
    kinds = np.repeat(list(parts), [len(rows) for rows in parts.values()])
    # with all candidates kept, what is no candidate is kept, too: the curves end at the model
    rows = np.concatenate(list(parts.values()))
    values = judge.values(rows, (kinds == "rest") | rows.all(axis=1))
    found = {kind: values[kinds == kind] for kind in parts}
    random = judge.f(found["random"])
    curve = []
    for number, size in enumerate(sizes):
        drawn = (
            judge.f(found["drawn"][number * curve_random : (number + 1) * curve_random])
            if size < n
            else np.zeros(0)
        )
        curve.append(
            {
                **judge.point(found["curve"][number], along[number]),
                "share": size / n,
                "random": float(drawn.mean()) if len(drawn) else None,
                "random_low": float(drawn.min()) if len(drawn) else None,
                "random_high": float(drawn.max()) if len(drawn) else None,
            }
        )
    low, high = judge.interval(found["circuit"][0])
    return {
        "faithfulness": float(judge.f(found["circuit"])[0]),
        "ci_low": low,
        "ci_high": high,
        "completeness": float(judge.f(found["rest"])[0]),
        "random": {"mean": float(random.mean()), "max": float(random.max()), "values": random.tolist()},
        "curve": curve,
        "areas": areas(judge.f(found["signed"]), judge.f(found["absolute"])),
    }


def _under(judge: Judge, choice: Bool[np.ndarray, "item"], order: np.ndarray) -> dict[str, Any]:
    """The circuit and short curves under one ablation, errors counted in three ways."""
    errors, n = judge.candidates.errors, len(choice)
    ways = ("chosen", "kept", "ablated") if errors.any() else ("chosen",)
    out: dict[str, Any] = {"m_empty": float(judge.empty.mean()), "curves": {}}
    for way in ways:
        ranked = order if way == "chosen" else order[~errors[order]]
        along = first_of(ranked, log_sizes(len(ranked), SHORT_CURVE), n)
        ends = np.stack([choice, ~choice, np.zeros(n, dtype=bool)])
        rows = np.concatenate([ends, along])
        values = judge.values(rows, (np.arange(len(rows)) == 1) | rows[:, ~errors].all(axis=1), errors=way)
        out["curves"][way] = [judge.point(values[3 + number], row) for number, row in enumerate(along)]
        if way == "chosen":
            found = judge.point(values[0], choice)
            out |= {name: found[name] for name in ("faithfulness", "ci_low", "ci_high")}
            out["completeness"] = float(judge.f(values[1]))
        else:
            out[f"errors_{way}"] = float(judge.f(values[0]))
        if way == "kept":
            out["errors_alone"] = float(judge.f(values[2]))
    return out


def _ranked(candidates: Candidates, first: Sequence[str]) -> Int[np.ndarray, "item"]:
    place, usual = {name: number for number, name in enumerate(candidates.names)}, candidates.order()
    head = np.array([place[name] for name in first if name in place], dtype=np.int64)
    return np.concatenate([head, usual[~np.isin(usual, head)]])


def _controls(
    judge: Judge,
    choice: Bool[np.ndarray, "item"],
    order: Int[np.ndarray, "item"],
    model: Any,
    batches: Sequence[PairBatch],
    found_on: Sequence[PairBatch],
    metric: Metric,
    result: AttributionResult,
    steps: int,
    max_tokens: int,
) -> dict[str, dict[str, Any]]:
    candidates, size = judge.candidates, int(choice.sum())
    sizes = log_sizes(len(choice), SHORT_CURVE)
    magnitudes = candidates.magnitudes(found_on, metric)
    rows = np.stack(
        [
            largest_alike(candidates, choice, magnitudes),
            *(largest_alike(candidates, row, magnitudes) for row in first_of(order, sizes, len(choice))),
        ]
    )
    out = {"magnitude": _control(judge, rows)}
    dictionaries = candidates.dictionaries
    if not dictionaries:
        return out
    refinder = Refinder(model, dictionaries, found_on, metric, result, steps=steps, max_tokens=max_tokens)
    for name, others in refinder.controls(judge.seed).items():
        found = candidates_of(model, refinder.find(others), batches, others, max_tokens=max_tokens)
        other = Judge.open(found, found.on(batches, metric), judge.ablation, judge.seed)
        asked = [min(size, len(found.names)), *log_sizes(len(found.names), SHORT_CURVE)]
        out[name] = _control(other, first_of(found.order(), asked, len(found.names)))
    return out


def _control(judge: Judge, rows: Bool[np.ndarray, "circuit item"]) -> dict[str, Any]:
    values = judge.values(rows, rows.all(axis=1))
    points = [judge.point(value, row) for value, row in zip(values, rows, strict=True)]
    out = {**points[0], "candidates": rows.shape[1], "curve": points[1:]}
    if judge.candidates.errors.any():
        out["errors_ablated"] = float(judge.f(judge.values(rows[:1], errors="ablated"))[0])
    return out
