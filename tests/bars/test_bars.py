"""The benchmarks of directions and matching: their measures against plain computation, and that both commands
run.
"""

import json
import sys

import numpy as np
import pytest
from fixtures.waits import run_to_end
from sklearn.metrics import average_precision_score

from emocircuits.organism.corpus import make_document
from emocircuits.organism.world import lexicon
from emocircuits.runs.run import Run
from tests.benchmarks import circuits
from tests.benchmarks.bars import at_least, at_most, beside, emotion_latents, print_rows, true_levels
from tests.benchmarks.directions import _regression
from tests.benchmarks.matching import _precision

EMOTIONS = ("calm", "desperate", "happy", "sad")


def test_average_precision_equals_scikit_learn():
    source = np.random.default_rng(0)
    scores, truth = source.standard_normal((5, 40)), source.random((5, 40)) < 0.2
    truth[3] = False  # an emotion that nothing tracks does not count
    expected = np.mean([average_precision_score(truth[row], scores[row]) for row in (0, 1, 2, 4)])
    assert _precision(scores, truth) == pytest.approx(expected)


def test_the_latent_of_an_emotion_is_what_tells_it_from_the_others():
    """Its stories have more of it than those of every other emotion, and it is a discriminant of
    the levels.
    """
    made = tuple(
        make_document("story", place * 60 + number, seed=3, named=False, emotion=emotion)
        for place, emotion in enumerate(EMOTIONS)
        for number in range(60)
    )
    latents, labels = emotion_latents(made, EMOTIONS), np.repeat(np.arange(4), 60)
    means = np.stack([latents[labels == label].mean(axis=0) for label in range(4)])
    assert (means.argmax(axis=0) == np.arange(4)).all()
    levels = true_levels(made)
    slopes = np.linalg.lstsq(np.column_stack([levels, np.ones(len(levels))]), latents[:, 1], rcond=None)[0][
        :-1
    ]
    np.testing.assert_allclose(levels @ slopes, latents[:, 1], atol=1e-9)
    known = lexicon().coordinates[lexicon().index("desperate")]
    assert (np.sign(slopes[:4]) == np.sign(known[:4])).all()


def test_regression_equals_ridge():
    from sklearn.linear_model import Ridge

    source = np.random.default_rng(1)
    stream = source.standard_normal((200, 6)) * np.arange(1, 7)
    latent = stream @ source.standard_normal(6) + source.standard_normal(200)
    pattern, weights = _regression(stream, latent, 0.5)
    penalty = 0.5 * np.trace(np.cov(stream.T, bias=True)) / 6 * 200
    np.testing.assert_allclose(weights, Ridge(alpha=penalty).fit(stream, latent).coef_, rtol=1e-8)
    np.testing.assert_allclose(
        pattern, [np.cov(column, latent, bias=True)[0, 1] for column in stream.T], rtol=1e-8
    )


def test_rows_say_whether_they_hold(capsys):
    rows = [at_least("a", 0.9, 0.85), at_most("b", 0.9, 0.85), beside("c", 0.5, "note")]
    assert [row.passes for row in rows] == [True, False, None]
    print_rows(rows)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| a | ≥ 0.85 | 0.9 | yes |  |",
        "| b | ≤ 0.85 | 0.9 | no |  |",
        "| c |  | 0.5 |  | note |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["directions", "matching"])
def test_the_command_prints_every_row(name):
    done = run_to_end([sys.executable, "-m", f"tests.benchmarks.{name}", "--quick"], seconds=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| yes |") + done.stdout.count("| no |") >= 8


def test_circuit_rows_are_what_the_run_measured(debug_run):
    rows = {row.what: row for row in circuits.measure(Run.make(debug_run, until="evaluate"), False)}
    scores = json.loads((debug_run / "scores.json").read_text())
    assert len(rows) == 9 * len(scores)
    for name, one in scores.items():
        assert rows[f"{name}: faithfulness"].value == one["faithfulness"]
        assert rows[f"{name}: faithfulness"].passes == (one["faithfulness"] >= 0.85)
        assert rows[f"{name}: nodes of the circuit over active nodes"].value == pytest.approx(
            one["nodes"] / one["active_nodes"]
        )
    assert all(np.isfinite(row.value) for row in rows.values())
