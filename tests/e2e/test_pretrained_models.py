"""The same command on real pretrained models (small settings here; the recipe's own settings are in the
docs).
"""

import json
import math

import pytest
from conftest import ROOT, real_model

RECIPE = str(ROOT / "analyses/recipes/tinystories.toml")
SMALL = [
    "collect.stories_per_emotion=8",
    "collect.neutral_texts=24",
    "sae.training_rows=30000",
    "match.permutations=50",
    "evaluate.exact_nodes=20",
    "attribute.pairs=6",
    "attribute.steps=3",
    "circuit.max_nodes=8",
    "circuit.rounds=2",
    "trace.prompts=2",
    "trace.control_steps=1",
    "trace.random_controls=1",
    "trace.content_controls=1",
    "evaluate.pairs=4",
    "evaluate.sizes=[5]",
    "evaluate.random_circuits=5",
    "steer.prompts=4",
    "steer.samples=2",
    "steer.random_sets=2",
    "steer.check_prompts=2",
    "steer.coherence_texts=2",
    "steer.strengths=[-0.5,0.0,0.5]",
    "sae.expansion=2",
]


def finite(value):
    if isinstance(value, dict):
        return all(finite(item) for item in value.values())
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.real_model
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tinystories-sp2M", "stories260K"])
def test_every_stage_on_a_pretrained_model(tmp_path, name):
    from emocircuits.cli.main import main

    changes = [part for text in SMALL for part in ("--set", text)]
    assert (
        main(
            [
                "run",
                RECIPE,
                "--model",
                str(real_model(name)),
                "--trust-remote-code",
                "--out",
                str(tmp_path / "run"),
                "--quiet",
                *changes,
            ]
        )
        == 0
    )
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert finite(summary)
    assert (
        set(summary["behaviours"]) == {"deception"} and "true_rate" not in summary["behaviours"]["deception"]
    )
    assert (tmp_path / "run/report.html").stat().st_size > 10_000


@pytest.mark.real_model
def test_custom_code_is_refused_without_permission(tmp_path, capsys):
    from emocircuits.cli.main import main

    model = real_model("tinystories-sp2M")
    assert main(["run", RECIPE, "--model", str(model), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert "--trust-remote-code" in capsys.readouterr().err
