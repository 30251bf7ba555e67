"""A function called in another process: its effect, its failure, its end."""

import json
import signal
import subprocess

import pytest

from emocircuits.errors import Failure
from emocircuits.figures.apart import apart


def test_the_end_is_waited_for(tmp_path):
    path = tmp_path / "there.json"
    arguments = {"path": str(path), "value": {"name": "déjà"}}
    with apart("emocircuits.io.documents", "write_json", arguments):
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8"))["name"] == "déjà"


def test_a_failure_there_is_one_here(capfd):
    with pytest.raises(Failure, match="json.loads ended with status 1"), apart("json", "loads", {"s": "{"}):
        pass
    assert "JSONDecodeError" in capfd.readouterr().err


def test_an_error_here_ends_the_process(monkeypatch):
    started, real = [], subprocess.Popen

    def noted(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with pytest.raises(KeyError), apart("json", "loads", {"s": "1"}):
        raise KeyError
    assert started[0].returncode == -signal.SIGKILL
