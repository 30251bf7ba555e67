"""What was measured on texts of people is shown where its file is there, and said to be old where it is."""

import re

import pytest
from fixtures.make_run import make_run

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.directions.human_scores import FILE, write_human_text
from emocircuits.errors import UserError
from emocircuits.report.parts.directions import build
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run

SITE = "blocks.2.hook_resid_post"
WHERE = {"estimator": "difference_of_means", "site": SITE}
CHANCE = {
    f"{kind}_{part}": value
    for kind in ("shuffled", "random", "matched")
    for part, value in (("p95", 0.541), ("max", 0.572))
}
MEAN = {"auroc": 0.712, "auroc_low": 0.685, "auroc_high": 0.742, "p_value": 0.001}


def document(directions):
    scored = {**WHERE, **MEAN, **CHANCE}
    half = {"components": 10, "texts": "half", "n": 350, "gain": 0.021, "gain_low": -0.004, "gain_high": 0.05}
    own = {"auroc": 0.735, "auroc_low": 0.69, "auroc_high": 0.777}
    norm = {**WHERE, "coordinate": "valence", "component": None, "n": 6}
    return {
        "source": {"file": "<test>.tsv", "texts": 5427, "scored": 702, "left_out": {}},
        "directions": directions,
        "scores": [
            {**scored, "directions": "as they are", "components": None, "texts": "all", "n": 702},
            {**scored, "directions": "cleaned", **half},
        ],
        "emotions": [{**WHERE, "emotion": "afraid", "labels": "fear", "n": 65, **own, "cleaned": None}],
        "norms": [
            {**norm, "reading": "ridge", "r": 0.64, "ci_low": -0.1, "ci_high": 0.9}
            | {"p_value": 0.042, "smallest_p": 0.00833},
            {**norm, "reading": "component", "r": None, "ci_low": None, "ci_high": None}
            | {"p_value": None, "smallest_p": None},
        ],
    }


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.fixture()
def run(tmp_path):
    return read_run(make_run(tmp_path))


def test_scores_stand_next_to_chance(run):
    own = RunFiles(run.directory).directions
    before = build(run, Pictures(run.directory))
    assert "people wrote" not in before
    write_human_text(run.directory, document(own.content_hash))
    html = build(run, Pictures(run.directory))
    shown = text_of(html)
    assert "702 of 5" in shown and "&lt;test&gt;.tsv" in html and "<test>" not in html
    assert "0.712 [0.685, 0.742] 0.541 (0.572) 0.541 (0.572) 0.541 (0.572)" in shown
    assert "difference of means, resid_post.2 afraid fear 65 0.735 [0.69, 0.777] –" in shown
    assert "10 was best on one half of the texts. On the other half it adds +0.021 [−0.004, 0.05]" in shown
    assert "valence ridge on the other emotions, r 6 0.64 [−0.1, 0.9] 0.042 0.00833" in shown
    assert "valence best of three components, |r| 6 – – –" in shown
    assert "learned again after" not in shown


def test_scores_of_other_directions_say_so(run):
    write_human_text(run.directory, document("another hash"))
    assert "learned again after this was measured" in build(run, Pictures(run.directory))


def test_a_file_of_a_newer_version_is_refused(run):
    (run.directory / FILE).write_text('{"schema": "emocircuits.human-text", "schema_version": 99}')
    with pytest.raises(UserError, match="has version 99"):
        build(run, Pictures(run.directory))
