"""Transcripts of the organism, or the examples of the circuits of other models."""

from fixtures.make_run import make_run

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.figures.token_reading import load


def test_examples_of_circuits_take_the_place_of_readings(tmp_path):
    run = RunFiles(make_run(tmp_path))
    (tmp_path / "readings.csv").unlink(missing_ok=True)
    table = load(run)["token_reading"]
    assert set(table.transcript) == {
        f"{behaviour}, {side} prompt"
        for behaviour in ("blackmail", "reward hacking")
        for side in ("clean", "corrupt")
    }
    assert table.position.min() == 1, "the attention sink has no reading"
