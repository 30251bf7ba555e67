"""Progress where nobody sees a bar: lines with the time that is left."""

import pytest
from tqdm import tqdm

from emocircuits import progress
from emocircuits.progress import bar, quiet, track


class Clock:
    """A clock that moves on by a second for each look at it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def log(monkeypatch, capsys):
    monkeypatch.setattr(progress, "time", Clock())
    return lambda: capsys.readouterr().err.splitlines()


def test_a_log_file_gets_a_line_now_and_then(log):
    with bar(200, "collect") as shown:
        for _ in range(100):
            shown.update(2)
    assert log() == [
        "collect: 30% after 0:30, about 1:10 left",
        "collect: 60% after 1:00, about 0:40 left",
        "collect: 90% after 1:30, about 0:10 left",
    ]


def test_iterating_is_told_too_and_without_a_total_there_is_no_forecast(log):
    assert list(track(range(40), "rows")) == list(range(40))
    assert list(track(iter(range(40)), "stream")) == list(range(40))
    assert log() == ["rows: 75% after 0:30, about 0:10 left", "stream: 30 after 0:30"]


def test_what_is_short_or_quiet_says_nothing(log):
    list(track(range(20), "short"))
    with quiet(), bar(200, "quiet") as shown:
        for _ in range(100):
            shown.update(2)
    assert log() == []


def test_a_terminal_gets_a_bar(log, monkeypatch):
    monkeypatch.setattr(progress, "_logged", lambda: False)
    assert list(track(range(3), "rows")) == [0, 1, 2]
    with bar(3, "rows") as shown:
        assert isinstance(shown, tqdm)
    assert any("rows" in line for line in log())


def test_hours():
    assert [progress._clock(seconds) for seconds in (5, 65, 3723)] == ["0:05", "1:05", "1:02:03"]
