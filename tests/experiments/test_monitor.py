"""The monitor reads what a plain pass reads, decides before the next token, and keeps its false-positive
rate.
"""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments.tiny_world import tiny_directions, tiny_model

from emocircuits.activations.story_files import read_stories
from emocircuits.errors import UserError
from emocircuits.experiments.calibration import Calibration, calibrate, calibrate_on_store
from emocircuits.experiments.monitor import Monitor, _Request, marked_text
from emocircuits.experiments.readings import token_readings
from emocircuits.runs.run import Run

PROMPT = "The doctor read the letter again and felt"


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def world(request, tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp(request.param), request.param)
    return model, tiny_directions(model)


def never(directions):
    return Calibration(dict.fromkeys(directions.emotions, 1e9), 0.01, 1000)


def always(directions, emotion="sad"):
    return Calibration({emotion: -1e9}, 0.01, 1000)


def watch(world, calibration, **options):
    return Monitor(*world, calibration, **options)


def test_readings_are_those_of_a_plain_pass_over_what_was_written(world):
    model, directions = world
    steps = list(watch(world, never(directions)).write(PROMPT, 8, seed=3))
    ids = [model.encode(PROMPT)[0], *(step.token for step in steps)]
    plain = token_readings(model, directions, [ids], list(directions.emotions))[0]
    for step in steps:  # tokens of the prompt and written ones alike
        np.testing.assert_allclose(list(step.readings.values()), plain[step.position], atol=1e-4)
    assert [step.position for step in steps] == list(range(1, len(ids))) and not any(
        step.above for step in steps
    )


def test_logging_changes_nothing_and_greedy_writing_is_the_models_own(world):
    model, directions = world
    ids = model.encode(PROMPT)
    expected = list(ids)
    with torch.no_grad():
        for _ in range(6):
            expected.append(int(model.bridge(torch.tensor([expected]))[0, -1].argmax()))
    found = [step.token for step in watch(world, always(directions)).write(PROMPT, 6, temperature=0)]
    eos = model.tokenizer.eos_token_id
    expected = (
        expected[1 : expected.index(eos, len(ids)) + 1] if eos in expected[len(ids) :] else expected[1:]
    )
    assert found == expected


def test_stopping_happens_before_the_token_is_drawn(world):
    model, directions = world
    steps = list(watch(world, always(directions), action="stop").write(PROMPT, 8))
    assert [step.position for step in steps if step.position >= len(model.encode(PROMPT))] == [
        len(model.encode(PROMPT))
    ]
    assert steps[-1].token is None and steps[-1].action == "stopped" and steps[-1].above == ("sad",)


def test_steering_reaches_the_very_next_token(world):
    """The first written token already comes from logits under the push: those of a pass whose last position
    is pushed.
    """
    model, directions = world
    monitor = watch(world, always(directions), action="steer", steering={"calm": 1.5})
    drawn = [
        step for step in monitor.write(PROMPT, 4, temperature=0) if step.position >= len(model.encode(PROMPT))
    ]
    ids, site = model.encode(PROMPT), directions.steer_site
    push = torch.from_numpy(directions.vector("calm", site)) * 1.5 * directions.scale(site)

    def at_the_end(value, hook):
        value = value.clone()
        value[:, -1] += push
        return value

    with torch.no_grad(), model.bridge.hooks(fwd_hooks=[(site, at_the_end)]):
        expected = int(model.bridge(torch.tensor([ids]))[0, -1].argmax())
    assert drawn[0].token == expected and [step.action for step in drawn] == ["steered"] + [""] * (
        len(drawn) - 1
    )


def test_annotated_text_is_marked_where_it_was_above(world):
    steps = list(watch(world, always(world[1]), action="annotate").write(PROMPT, 3, seed=1))
    written = [step for step in steps if step.action]
    assert marked_text(written) == "".join(f"{step.text}[sad]" for step in written) and len(written) <= 3


def test_requests_do_not_share_state(world):
    monitor = watch(world, never(world[1]))
    first = [step.line("a") for step in monitor.write(PROMPT, 5, seed=2)]
    list(monitor.write("She ran home", 5, seed=9))
    assert first == [step.line("a") for step in monitor.write(PROMPT, 5, seed=2)]
    assert set(json.loads(first[0])) == {
        "request",
        "position",
        "token",
        "text",
        "readings",
        "features",
        "above",
        "action",
    }


@pytest.mark.parametrize("window", [1, 4])
def test_the_false_positive_rate_holds_on_text_it_was_not_calibrated_on(world, window):
    model, directions = world
    source = np.random.default_rng(0)
    words = ["doctor", "letter", "calm", "rain", "home", "tests", "truth", "help", "decided", "failed"]
    texts = [" ".join(source.choice(words, 30)) for _ in range(60)]
    found = calibrate(model, directions, texts[:40], ["sad", "calm"], false_positive_rate=0.05, window=window)
    monitor = Monitor(model, directions, found)
    above = [step.above for text in texts[40:] for step in monitor.write(text, 0)]
    for emotion in ("sad", "calm"):
        assert 0.005 < np.mean([emotion in one for one in above]) < 0.12


def test_what_cannot_be_monitored(world):
    model, directions = world
    with pytest.raises(UserError, match="unknown action 'shout'"):
        watch(world, never(directions), action="shout")
    with pytest.raises(UserError, match="'steer' without a direction"):
        watch(world, never(directions), action="steer")
    with pytest.raises(UserError, match="neutral tokens for a false-positive rate.*at least 1000 tokens"):
        calibrate(model, directions, ["The doctor read"], ["sad"], false_positive_rate=0.001)
    with pytest.raises(UserError, match="no neutral texts"):
        calibrate(model, directions, [], ["sad"])
    with pytest.raises(UserError, match="at most the context of"):
        list(watch(world, never(directions)).write(PROMPT, 10_000))
    with pytest.raises(UserError, match="prompt is empty"):
        list(watch(world, never(directions)).write("", 3))


def test_the_command_writes_lines_of_json(world, tmp_path, monkeypatch, capsys):
    from emocircuits.cli.main import main

    model, directions = world
    directions.save(tmp_path / "directions.h5")
    (tmp_path / "neutral.txt").write_text("The doctor read the letter again.\n" * 40)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PROMPT}\nShe ran home\n"))
    given = [
        "monitor",
        str(tmp_path / "directions.h5"),
        "--model",
        model.directory,
        "--neutral",
        str(tmp_path / "neutral.txt"),
        "--emotions",
        "sad,calm",
        "--fpr",
        "0.02",
        "--tokens",
        "3",
    ]
    assert main([*given, "--text", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert set(lines[0]["thresholds"]) == {"sad", "calm"} and [
        line["request"] for line in lines if "stopped" in line
    ] == [0, 1]
    for wrong, says in (
        (["--text", str(tmp_path / "none")], "there is no file"),
        ([], "either --text or --chat"),
        (["--text", "-", "--steer", "calm"], "NAME=STRENGTH"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("x y\n"))
        assert main([*given, *wrong]) == 2 and says in capsys.readouterr().err
    (tmp_path / "chat.jsonl").write_text('[{"role": "user", "content": "Hi"}]\n')
    assert (
        main([*given, "--chat", str(tmp_path / "chat.jsonl")]) == 2
        and "no chat template" in capsys.readouterr().err
    )


def test_a_character_of_several_tokens_appears_once_it_is_whole(world):
    model, directions = world
    watching = watch(world, never(directions))
    steps = list(watching.write("She felt 😀", 1))
    assert "".join(step.text for step in steps[:-1]).endswith("She felt 😀")
    request = _Request(watching, torch.Generator(), 0.0)
    ids = model.tokenize("好 😀 a")["input_ids"]
    texts = [request._text(token) for token in ids]
    assert "".join(texts) == "好 😀 a" and len([text for text in texts if text]) < len(ids)
    lone = model.tokenize("好")["input_ids"][:1]
    assert [request._text(token) for token in lone * 4][-1] == "\ufffd"  # not awaited for ever


def test_a_mark_stands_at_the_token_that_is_above(world):
    plain = list(watch(world, never(world[1])).write(PROMPT, 9, seed=4))
    start = len(world[0].encode(PROMPT))
    written = [step for step in plain if step.position >= start]
    middle = float(np.median([step.readings["sad"] for step in written]))
    marked = list(
        watch(world, Calibration({"sad": middle}, 0.01, 1000), action="annotate").write(PROMPT, 9, seed=4)
    )
    assert [step.token for step in marked] == [step.token for step in plain]
    for step in marked:
        above = step.readings["sad"] > middle
        assert step.above == (("sad",) if above else ())
        assert step.action == ("marked" if above and step.position >= start else "")
    assert 0 < len([step for step in marked if step.action]) < len(written)


def test_thresholds_from_a_store_are_those_of_its_texts(debug_run):
    run = Run.open(debug_run)
    texts = [text.text for text in read_stories(run.path("texts.jsonl")) if text.kind == "neutral"]
    how = {"false_positive_rate": 0.05, "window": 3}
    stored = calibrate_on_store(run.store, run.directions, ["desperate", "calm"], **how)
    read = calibrate(run.model, run.directions, texts, ["desperate", "calm"], **how)
    assert stored.tokens == read.tokens and stored.window == 3
    for emotion, threshold in read.thresholds.items():
        assert stored.thresholds[emotion] == pytest.approx(threshold, rel=0.02, abs=2e-3)
    with pytest.raises(UserError, match="no neutral texts of the directions' model"):
        calibrate_on_store(run.store, replace(run.directions, model_hash="another"), ["calm"])
