"""Tables of the report: short to read, full to sort by, never markup from data."""

import pandas as pd

from emocircuits.report.tables import Cell, cell, estimate, facts, frame, named, table

HOSTILE = '</script><img src=x onerror="window.pwned=1">'


def test_a_cell_carries_its_full_value():
    assert cell(0.1) == '<td class="num" title="0.1">0.1</td>'
    assert cell(True) == '<td data-sort="1">yes</td>'
    assert cell(None) == '<td class="num" title="">–</td>'
    assert cell(Cell("<b>2</b>", 2.5)) == '<td class="num" data-sort="2.5"><b>2</b></td>'
    assert estimate(0.5, 0.25, 0.75).html == "0.5 <small>[0.25, 0.75]</small>"
    assert estimate(0.5, None, None).html == "0.5 <small></small>"


def test_text_never_becomes_markup():
    assert HOSTILE not in table(["a"], [[HOSTILE]], caption=HOSTILE)
    assert HOSTILE not in table([HOSTILE], [[1]]) and HOSTILE not in facts([(HOSTILE, HOSTILE)])


def test_a_column_is_numeric_where_every_cell_is():
    text = table(["a", "b"], [[1, 1], [None, "x"]])
    assert text.count('<th scope="col" class="num">') == 1
    assert 'class="none">nothing' in table(["a"], [])


def test_a_frame_shows_its_named_columns_and_no_nan():
    data = pd.DataFrame({"a": [1.0, float("nan")], "b": ["x", "y"]})
    assert named(data, {"a": "first", "c": "absent"}) == {"a": "first"}
    text = frame(data, {"a": "first"})
    assert "first" in text and "nan" not in text and ">x<" not in text
