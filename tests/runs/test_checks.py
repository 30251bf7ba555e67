"""Every value of a recipe is checked before the first stage runs; the error names its key."""

import json
from pathlib import Path

import pytest

from emocircuits.errors import UserError
from emocircuits.runs.execute import plan_lines, run_pipeline
from emocircuits.runs.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
DEBUG = ROOT / "analyses/recipes/debug.toml"


@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        # a type, a range, a choice: while the recipe is read
        ("collect.stories_per_emotion=x", "collect.stories_per_emotion", "expected int"),
        ("match.q_value=2", "match.q_value", "expected at most 1"),
        ("collect.dtype=float16", "collect.dtype", "did you mean"),
        # names that only the rooms know
        ('behaviours=["blackmale"]', "behaviours", "did you mean 'blackmail'"),
        ("behaviours=[]", "behaviours", "empty"),
        ("directions.estimator=magic", "directions.estimator", "difference_of_means"),
        ("sae.architecture=topkk", "sae.architecture", "did you mean 'topk'"),
        ("attribute.method=gradient", "attribute.method", "integrated_gradients"),
        ("collect.material=planed", "collect.material", "did you mean 'planted'"),
        # emotions that the material cannot show
        ("emotion=desprate", "emotion", "did you mean 'desperate'"),
        ("opposite=clam", "opposite", "did you mean 'calm'"),
        (
            'collect.emotions=["desperate", "calm", "gloomy"]',
            "collect.emotions",
            "unknown collect.emotions 'gloomy'",
        ),
        ('collect.emotions=["calm", "sad"]', "emotion", "unknown emotion 'desperate'"),
        # layers
        ("circuit.from_depth=1.0", "circuit.from_depth", "leaves no site"),
        ("directions.to_depth=0.3", "directions.to_depth", "no site lies between the depths"),
        ("directions.to_depth=0.4", "directions.read_depth", "lies outside the depths"),
        ("directions.from_depth=1.0", "directions.read_depth", "lies outside the depths"),
        (
            'sae_source.pretrained=["9=x"]',
            "sae_source.pretrained",
            "unknown site in sae_source.pretrained '9'",
        ),
        ("sae.k=100000", "sae.k", "at most d_sae"),
        # device and precision
        ("device=cuda:99", "device", "device is 'cuda:99'"),
        ("device=toaster", "device", "device is 'toaster'"),
        ("dtype=int8", "dtype", "unknown dtype 'int8'"),
        # files
        ("checks.intensity=nowhere.toml", "checks.intensity", "nowhere.toml cannot be read"),
        ("preference.material=nowhere.toml", "preference.material", "nowhere.toml cannot be read"),
        ("collect.material=nowhere.jsonl", "collect.material", "nowhere.jsonl"),
        ("sae_source.directory=nowhere", "sae_source.directory", "no SAE for blocks.0"),
        ("sae_source.registry=nowhere.toml", "sae_source.registry", "there is no registry nowhere.toml"),
        ("sae_source.registered=nobody", "sae_source.registered", "unknown sae_source.registered 'nobody'"),
        # what belongs together
        ('steer.emotions=["calm"]', "steer.emotions", "lacks 'desperate'"),
        ("steer.strengths=[0.0]", "steer.strengths", "other than 0"),
    ],
)
def test_a_value_that_cannot_work_is_refused_before_anything_is_computed(tmp_path, value, key, message):
    out = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        run_pipeline(load_recipe(DEBUG, (value,)), out)
    assert key in str(caught.value) and message in str(caught.value)
    assert not (out / "manifest.json").exists() and not (out / "model.json").exists()


def test_a_dry_run_checks_as_well(tmp_path):
    with pytest.raises(UserError, match="attribute.method"):
        plan_lines(load_recipe(DEBUG, ("attribute.method=gradient",)), tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_single_stage_is_checked_alone(tmp_path):
    """What other stages would refuse does not hinder the stages that were asked for."""
    manifest = run_pipeline(
        load_recipe(DEBUG, ("attribute.method=gradient",)), tmp_path / "run", until="plan"
    )
    assert list(manifest.stages) == ["plan"]


def test_stories_of_a_file_must_show_the_emotions(tmp_path):
    lines = [
        {
            "id": f"{emotion}/{split}/{number}",
            "text": "x",
            "emotion": emotion,
            "kind": "story",
            "split": split,
        }
        for emotion in ("calm", "happy")
        for split in ("train", "held_out")
        for number in range(2)
    ]
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="collect.material: unknown emotion 'desperate'"):
        run_pipeline(load_recipe(DEBUG, (f"collect.material={path}",)), tmp_path / "run")
