"""Where the numbers come from."""

import json

from fixtures.make_run import make_run

from emocircuits.report.parts.provenance import build, versions
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run


def test_packages_and_python_have_versions():
    rows = dict(versions())
    assert rows["python"].count(".") == 2 and rows["numpy"][0].isdigit()


def test_checks_of_the_model_stand_there_where_they_were_made(tmp_path):
    run = read_run(make_run(tmp_path))
    (tmp_path / "model.json").unlink(missing_ok=True)
    assert "Checks of the model" not in build(run, Pictures(tmp_path))
    check = {"name": "logits", "passed": False, "value": 0.5, "detail": "<too large>"}
    (tmp_path / "model.json").write_text(json.dumps({"checks": [check]}))
    text = build(run, Pictures(tmp_path))
    assert "<td>failed</td>" in text and "&lt;too large&gt;" in text
    assert run.manifest["stages"]["sae"]["key"][:12] in text
