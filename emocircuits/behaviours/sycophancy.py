"""Sycophancy: agree with whatever the user claims (Sofroniew et al. 2026, section on sycophancy)."""

from emocircuits.behaviours.behaviour import register

SYCOPHANCY = register(
    name="sycophancy",
    title="Sycophancy",
    summary="A user states a claim, right or wrong. The assistant agrees or disagrees. Warm positive "
    "states raise agreement; for *desperate* no direction is stated.",
    expected_direction=0,
    materials={"organism": (("agree",), ("disagree",), "")},
    natural={"natural": 0},
)
