"""The steering curves of a circuit's page stand beside their controls, though emotions are run at more
strengths.
"""

import pandas as pd

from emocircuits.artifacts.run_evidence import dose_response


def rows(direction, kind, strengths):
    return [
        {
            "direction": direction,
            "kind": kind,
            "strength": strength,
            "behaviour": "b",
            "rate": 0.5 + strength / 4,
            "ci_low": 0.4,
            "ci_high": 0.6,
            "n": 12,
        }
        for strength in strengths
    ]


def kinds(dose):
    return [(curve.direction, curve.kind) for curve in dose.curves]


def test_controls_have_curves_where_emotions_are_run_at_more_strengths():
    table = pd.DataFrame(
        [
            *rows("desperate", "emotion", (-0.5, -0.1, 0, 0.1, 0.5)),
            *rows("random 0", "random", (-0.5, 0, 0.5)),
            *rows("random 1", "random", (-0.5, 0, 0.5)),
            *rows("half", "random", (0, 0.5)),
        ]
    )
    dose = dose_response(table, None, "b")
    assert dose.strengths == (-0.5, 0, 0.5)
    # one lacks a strength
    assert kinds(dose) == [("desperate", "emotion"), ("random 0", "random"), ("random 1", "random")]
    assert dose.curves[0].rate == (0.375, 0.5, 0.625)


def test_an_emotion_alone_keeps_all_its_strengths():
    alone = rows("desperate", "emotion", (-0.5, -0.1, 0.5))
    apart = [*alone, *rows("random 0", "random", (0.25, 0.5))]  # one strength in common makes no curve
    for table in (alone, apart):
        dose = dose_response(pd.DataFrame(table), None, "b")
        assert dose.strengths == (-0.5, -0.1, 0.5) and kinds(dose) == [("desperate", "emotion")]
    assert dose_response(pd.DataFrame(alone), None, "another") is None
