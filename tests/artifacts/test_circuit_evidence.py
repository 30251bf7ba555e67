"""Evidence around a circuit: a round trip, and one line for whatever is wrong with it."""

import json

import pytest
from fixtures.make_circuit import make_circuit
from fixtures.make_evidence import make_evidence

from emocircuits.artifacts.evidence import (
    CircuitEvidence,
    Control,
    Corrupt,
    Dose,
    DoseCurve,
    PathShare,
)
from emocircuits.errors import UserError


def test_it_comes_back_equal(tmp_path):
    evidence = make_evidence(make_circuit())
    path = PathShare(("m0", "target/logit_diff"), 0.25, "desperate", -1.5)
    evidence = CircuitEvidence(**{**vars(evidence), "paths": (path,), "measure": "of everything"})
    evidence.save(tmp_path / "evidence_blackmail.json")
    assert CircuitEvidence.load(tmp_path / "evidence_blackmail.json") == evidence
    CircuitEvidence().save(tmp_path / "nothing.json")
    assert CircuitEvidence.load(tmp_path / "nothing.json") == CircuitEvidence()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PathShare(("m0",), 0.5), "path of 1 nodes"),
        (lambda: PathShare(("m0", "nonsense/x"), 0.5), "not a node id"),
        (lambda: PathShare(("m0", "m1"), float("nan")), "share of a path is nan"),
        (lambda: Control("x", "topic", {}), "of the kind 'topic'; expected emotion, random"),
        (lambda: Control("x", "random", {"m0": float("inf")}), "effect of m0 under x is inf"),
        (lambda: DoseCurve("x", "random", (0.1, 0.2), ci_low=(0.1,)), "1 values of ci_low; expected 2"),
        (lambda: Dose((0.5, -0.5), ()), "do not rise"),
        (lambda: Dose((0.0, 0.5), (DoseCurve("x", "random", (0.1,)),)), "1 rates; expected 2"),
        (lambda: Corrupt(("a", "b"), {"m0": ((1.0,), (1.0, 2.0))}), "1 and 2 activations; expected 2 each"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"schema": "emocircuits.circuit"}, "schema 'emocircuits.circuit'"),
        ({"schema": "emocircuits.evidence", "schema_version": 9}, "version 9"),
        ({"schema": "emocircuits.evidence", "schema_version": 1, "pathes": []}, "not whole"),
        (
            {"schema": "emocircuits.evidence", "schema_version": 1, "paths": [{"nodes": ["m0", "m1"]}]},
            "not whole",
        ),
        ({"schema": "emocircuits.evidence", "schema_version": 1, "dose": {"curves": []}}, "not whole"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, value, message):
    (tmp_path / "e.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=message):
        CircuitEvidence.load(tmp_path / "e.json")
