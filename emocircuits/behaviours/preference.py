"""Preference: which of two activities would the model rather do (Sofroniew et al. 2026, section on
preferences).
"""

from emocircuits.behaviours.behaviour import register

PREFERENCE = register(
    name="preference",
    title="Preference",
    summary="Two activities are offered as A and B and the answer is a letter. The "
    "metric is the log-odds of A.",
    expected_direction=0,
    materials={"organism": (("A",), ("B",), "")},
)
