"""What a run measured around a circuit: paths, controls, steering, the corrupt prompt. Every part is
optional.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from emocircuits.errors import UserError
from emocircuits.io.documents import read_json, write_json
from emocircuits.names import parse_node
from emocircuits.sanitise import finite, sanitise_json

SCHEMA, VERSION = "emocircuits.evidence", 1
KINDS = ("emotion", "random", "content", "shuffled")


@dataclass(frozen=True)
class PathShare:
    """One path through the circuit.

    Attributes:
        nodes: node ids, the first is the earliest; neighbours are joined by links of the circuit.
        share: the path's part of what reaches its last node, from 0 to 1 (`measure` of the evidence says of
            what).
        emotion: the emotion whose feature the path starts from, or "" for the words of the prompt.
        effect: signed effect of the path on the metric where one was measured.
    """

    nodes: Sequence[str]
    share: Real
    emotion: str = ""
    effect: Real | None = None

    def __post_init__(self) -> None:
        _set(self, nodes=tuple(self.nodes), share=finite(self.share, "share of a path"))
        _set(self, effect=finite(self.effect, "effect of a path"))
        if len(self.nodes) < 2:
            raise UserError(f"a path of {len(self.nodes)} nodes", expected="at least two")
        for node in self.nodes:
            parse_node(node)


@dataclass(frozen=True)
class Control:
    """The circuit's nodes and links measured along another direction.

    Attributes:
        name: name of the direction (`calm`, `random 0`, `music`).
        kind: one of `KINDS`.
        nodes: node id -> effect on the metric; nodes left out were not measured.
        edges: (source, target, weight) of the circuit's links; () where links were not measured.
        note: what was done, for the reader.
    """

    name: str
    kind: str
    nodes: Mapping[str, Real]
    edges: Sequence[Sequence[Any]] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"the control '{self.name}' is of the kind '{self.kind}'", expected=", ".join(KINDS)
            )
        _set(
            self,
            nodes={
                node: finite(value, f"effect of {node} under {self.name}")
                for node, value in self.nodes.items()
            },
        )
        _set(
            self,
            edges=tuple((a, b, finite(w, f"link {a} -> {b} under {self.name}")) for a, b, w in self.edges),
        )


@dataclass(frozen=True)
class DoseCurve:
    """Measured response to steering along one direction, one value per strength of the `Dose`.

    Attributes:
        direction, kind: the direction and what it is (one of `KINDS`).
        rate: rate of the behaviour.
        ci_low, ci_high: interval of the rate over prompts, or () where there is none.
        n: prompts of each value.
        slope: change of the log-odds per unit of strength, or None.
        p_value: of the slope against the random directions, or None.
    """

    direction: str
    kind: str
    rate: Sequence[Real]
    ci_low: Sequence[Real] = ()
    ci_high: Sequence[Real] = ()
    n: int = 0
    slope: Real | None = None
    p_value: Real | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"the direction '{self.direction}' is of the kind '{self.kind}'", expected=", ".join(KINDS)
            )
        for name in ("rate", "ci_low", "ci_high"):
            values = tuple(finite(value, f"{name} of {self.direction}") for value in getattr(self, name))
            if len(values) not in ((len(self.rate),) if name == "rate" else (0, len(self.rate))):
                raise UserError(
                    f"{self.direction} has {len(values)} values of {name}", expected=f"{len(self.rate)}"
                )
            _set(self, **{name: values})
        for name in ("slope", "p_value"):
            _set(self, **{name: finite(getattr(self, name), f"{name} of {self.direction}")})


@dataclass(frozen=True)
class Dose:
    """Dose–response: `curves` at `strengths` (fractions of the mean residual norm, ascending)."""

    strengths: Sequence[Real]
    curves: Sequence[DoseCurve]

    def __post_init__(self) -> None:
        strengths = tuple(finite(value, "a strength") for value in self.strengths)
        if list(strengths) != sorted(set(strengths)):
            raise UserError("the strengths of a dose–response do not rise", expected="each once, ascending")
        _set(self, strengths=strengths, curves=tuple(self.curves))
        for curve in self.curves:
            if len(curve.rate) != len(strengths):
                raise UserError(
                    f"{curve.direction} has {len(curve.rate)} rates",
                    expected=f"{len(strengths)}, one per strength",
                )


@dataclass(frozen=True)
class Corrupt:
    """The corrupt prompt next to the example's clean one.

    Attributes:
        tokens: its tokens; as many as the example has.
        activations: node id without position -> (activation at each token of the clean prompt, of the corrupt
            prompt).
    """

    tokens: Sequence[str]
    activations: Mapping[str, Sequence[Sequence[Real]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _set(self, tokens=tuple(sanitise_json(text, "a token") for text in self.tokens))
        activations = {}
        for node, (clean, corrupt) in self.activations.items():
            if not len(clean) == len(corrupt) == len(self.tokens):
                raise UserError(
                    f"{node} has {len(clean)} and {len(corrupt)} activations",
                    expected=f"{len(self.tokens)} each",
                )
            activations[node] = tuple(
                tuple(finite(value, f"activation of {node}") for value in side) for side in (clean, corrupt)
            )
        _set(self, activations=activations)


@dataclass(frozen=True)
class CircuitEvidence:
    """What stands next to one behaviour's circuit in the viewer; a part that nobody measured is absent.

    Attributes:
        emotion: the emotion the run asks about; the control switch names the circuit's own values after it.
        model: name of the model.
        paths: strongest paths; empty lets the viewer's own shares stand (`emocircuits.viewer.path_shares`).
        measure: what the shares of `paths` are parts of, in words.
        controls: the same grid under other directions.
        dose: steering.
        corrupt: the other prompt of the example pair.
    """

    emotion: str = ""
    model: str = ""
    paths: tuple[PathShare, ...] = ()
    measure: str = ""
    controls: tuple[Control, ...] = ()
    dose: Dose | None = None
    corrupt: Corrupt | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; parts that say nothing are left out."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "CircuitEvidence":
        """The inverse of `to_dict`.

        Raises:
            UserError: a field is missing, has an unknown name or a wrong value.
        """
        known = {name: value[name] for name in value if name not in ("schema", "schema_version")}
        try:
            if "paths" in known:
                known["paths"] = tuple(PathShare(**item) for item in known["paths"])
            if "controls" in known:
                known["controls"] = tuple(Control(**item) for item in known["controls"])
            if "dose" in known:
                dose = known["dose"]
                known["dose"] = Dose(dose["strengths"], tuple(DoseCurve(**item) for item in dose["curves"]))
            if "corrupt" in known:
                known["corrupt"] = Corrupt(**known["corrupt"])
            return cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"the evidence document is not whole ({error})", expected="the fields of docs/viewer.md"
            ) from error

    def save(self, path: str | Path) -> None:
        """Writes `evidence_<behaviour>.json`, atomically."""
        write_json(path, sanitise_json(self.to_dict(), "evidence"), schema=SCHEMA, version=VERSION)

    @classmethod
    def load(cls, path: str | Path) -> "CircuitEvidence":
        """Reads a file written by `save`."""
        return cls.from_dict(read_json(path, schema=SCHEMA, version=VERSION))


def _set(value: Any, **changes: Any) -> None:
    for name, change in changes.items():
        object.__setattr__(value, name, change)
