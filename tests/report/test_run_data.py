"""What the report reads of a run."""

import json

from fixtures.make_run import make_run

from emocircuits.report.run_data import read_run


def test_a_warning_of_a_stage_that_the_summary_repeats_is_said_once(tmp_path):
    make_run(tmp_path)
    for name, change in (
        ("summary.json", lambda value: value.update(warnings=["the circuit is weak"])),
        (
            "manifest.json",
            lambda value: value["stages"]["evaluate"].update(warnings=["the circuit is weak", "few prompts"]),
        ),
    ):
        document = json.loads((tmp_path / name).read_text())
        change(document)
        (tmp_path / name).write_text(json.dumps(document))
    warnings = read_run(tmp_path).warnings
    assert warnings.count("the circuit is weak") == 1 and "evaluate: few prompts" in warnings
    assert "evaluate: the circuit is weak" not in warnings


def test_a_run_holds_a_circuit_evidence_and_tokens_per_behaviour(tmp_path):
    run = read_run(make_run(tmp_path))
    assert set(run.circuits) == set(run.scores) == set(run.evidence) == set(run.tokens)
    assert (run.emotion, run.opposite) == ("desperate", "calm")
