"""The controls of a circuit as rows of the report."""

from emocircuits.report.parts.checks import _controls


def test_a_row_per_control_whatever_its_form():
    controls = {
        "top_effects": {"faithfulness": 0.5, "ci_low": 0.4, "ci_high": 0.6, "size": 12, "errors": 3},
        "swapped_prompts": {"slope": 0.1, "note": "text", "deep": {"r": 1.0}},
        "shuffled": 0.25,
    }
    rows = _controls("blackmail", controls)
    assert [row[1] for row in rows] == [
        "top effects: faithfulness",
        "swapped prompts: slope",
        "swapped prompts: deep.r",
        "shuffled",
    ]
    assert rows[0][2].html == "0.5 <small>[0.4, 0.6]</small>" and rows[0][3:] == [12, 3]
    assert [row[2] for row in rows[1:]] == [0.1, 1.0, 0.25]
