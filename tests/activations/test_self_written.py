"""Self-written stories: material, sampling, filter, freezing, resuming, JSONL."""

import pytest
from activations.fake_model import FakeModel

from emocircuits.activations import self_written, story_writer
from emocircuits.activations.self_written import (
    StorySettings,
    WritingPlan,
    read_report,
    report_path,
    write_stories,
)
from emocircuits.activations.story_files import read_stories
from emocircuits.activations.story_material import plan_openings, story_material
from emocircuits.errors import Failure, UserError
from tests.conftest import real_model

FAST = StorySettings(new_tokens=12, min_new_tokens=2, batch_size=5)


def test_stories_hold_no_forbidden_word_and_carry_their_labels(tmp_path):
    texts = write_stories(
        FakeModel(), WritingPlan(("sad", "happy"), 16, n_neutral=8), tmp_path / "s.jsonl", settings=FAST
    )
    material = story_material()
    openings = {
        o.label.id: o.text
        for e, n in (("sad", 16), ("happy", 16), ("", 8))
        for o in plan_openings(material, e, n, 0)
    }
    for text in texts:
        assert (
            not material.names(text.emotion, text.text) and text.topic in material.topics and not text.named
        )
        assert text.text.startswith(openings[text.id]) and len(text.text) > len(openings[text.id])
        assert text.kind == ("story" if text.emotion else "neutral") and text.split in ("train", "held_out")
    report = read_report(tmp_path / "s.jsonl")
    assert report["planned"] == 40 and report["kept"] == len(texts)
    assert not (tmp_path / "s.jsonl.part").exists()


def test_filter_throws_away_what_the_ban_cannot_see(tmp_path):
    model = FakeModel()
    model.words[8] = "sad—so."  # a word with a forbidden one inside that is no vocabulary entry of its own
    model.table[:, 8] -= 0.5
    texts = write_stories(model, WritingPlan(("sad",), 16), tmp_path / "s.jsonl", settings=FAST)
    report = read_report(tmp_path / "s.jsonl")
    assert report["thrown_away"]["named"] > 0 and not any("sad" in text.text for text in texts)


def test_all_thrown_away_is_a_failure(tmp_path):
    model = FakeModel()
    model.words[4] = model.words[5] = "sad—so."
    model.table[:, 4] += 30
    with pytest.raises(Failure, match="no usable story of 'sad'"):
        write_stories(model, WritingPlan(("sad",), 4), tmp_path / "s.jsonl", settings=FAST)
    assert not (tmp_path / "s.jsonl").exists()


def test_same_seed_same_stories_whatever_the_batch_size(tmp_path):
    made = []
    for size in (1, 5, 64):
        settings = StorySettings(new_tokens=12, min_new_tokens=2, batch_size=size)
        made.append(
            write_stories(
                FakeModel(),
                WritingPlan(("sad", "calm"), 12, seed=7),
                tmp_path / f"{size}.jsonl",
                settings=settings,
            )
        )
    assert made[0] == made[1] == made[2]
    assert made[0] != write_stories(
        FakeModel(), WritingPlan(("sad", "calm"), 12, seed=8), tmp_path / "other.jsonl", settings=FAST
    )


def test_second_call_reads_and_does_not_write(tmp_path):
    model, path = FakeModel(), tmp_path / "s.jsonl"
    first = write_stories(model, WritingPlan(("sad",), 8), path, settings=FAST)
    calls, stamp = model.calls, path.stat().st_mtime_ns
    assert write_stories(model, WritingPlan(("sad",), 8), path, settings=FAST) == first == read_stories(path)
    assert model.calls == calls and path.stat().st_mtime_ns == stamp


def test_foreign_or_changed_file_is_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    write_stories(FakeModel(), WritingPlan(("sad",), 8), path, settings=FAST)
    with pytest.raises(UserError, match="another model, seed or settings"):
        write_stories(FakeModel(), WritingPlan(("sad",), 8, seed=1), path, settings=FAST)
    path.write_text(path.read_text().replace("ran", "sat"))
    with pytest.raises(UserError, match="was changed"):
        write_stories(FakeModel(), WritingPlan(("sad",), 8), path, settings=FAST)
    report_path(path).write_text("{")
    with pytest.raises(UserError, match="not a readable report"):
        write_stories(FakeModel(), WritingPlan(("sad",), 8), path, settings=FAST)


@pytest.mark.parametrize("batches_before_the_kill", [1, 2, 4])
def test_killed_call_goes_on_with_the_same_texts(tmp_path, monkeypatch, batches_before_the_kill):
    whole = write_stories(
        FakeModel(), WritingPlan(("sad", "calm"), 16), tmp_path / "whole.jsonl", settings=FAST
    )
    save, saved = story_writer.StoryWriter._save, []

    def dying_save(writer):
        save(writer)
        saved.append(1)
        if len(saved) == batches_before_the_kill:
            raise KeyboardInterrupt

    path = tmp_path / "cut.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(story_writer.StoryWriter, "_save", dying_save)
        with pytest.raises(KeyboardInterrupt):
            write_stories(FakeModel(), WritingPlan(("sad", "calm"), 16), path, settings=FAST)
    assert not path.exists() and path.with_name("cut.jsonl.part").exists()
    again = FakeModel()
    assert write_stories(again, WritingPlan(("sad", "calm"), 16), path, settings=FAST) == whole
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_kill_between_the_report_and_the_texts_is_mended(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"

    write_text = self_written.write_text

    def die_at_the_texts(target, contents):
        if target == path:
            raise KeyboardInterrupt
        write_text(target, contents)

    with monkeypatch.context() as patch:
        patch.setattr(self_written, "write_text", die_at_the_texts)
        with pytest.raises(KeyboardInterrupt):
            write_stories(FakeModel(), WritingPlan(("sad",), 8), path, settings=FAST)
    assert write_stories(FakeModel(), WritingPlan(("sad",), 8), path, settings=FAST) == read_stories(path)
    assert read_report(path)["kept"] == 8


def test_bad_requests(tmp_path):
    path = tmp_path / "s.jsonl"
    with pytest.raises(UserError, match="unknown emotion .*'sadd'; did you mean 'sad'"):
        write_stories(FakeModel(), WritingPlan(("sadd",), 8), path)
    with pytest.raises(UserError, match="each emotion once"):
        write_stories(FakeModel(), WritingPlan(("sad", "sad"), 8), path)
    with pytest.raises(UserError, match="held_out_share 1.5"):
        write_stories(FakeModel(), WritingPlan(("sad",), 8, held_out_share=1.5), path)
    with pytest.raises(UserError, match="0 stories per emotion"):
        write_stories(FakeModel(), WritingPlan(("sad",), 0), path)


@pytest.mark.real_model
@pytest.mark.parametrize("name", ["tinystories-sp2M", "stories260K"])
def test_real_model_writes(tmp_path, name):
    from emocircuits.models.loader import load_model

    model = load_model(str(real_model(name)), trust_remote_code=True)
    settings = StorySettings(new_tokens=24, min_new_tokens=8)
    texts = write_stories(
        model, WritingPlan(("sad", "desperate"), 8, n_neutral=8), tmp_path / "s.jsonl", settings=settings
    )
    assert len(texts) >= 20 and {text.emotion for text in texts} == {"sad", "desperate", ""}
    assert not any(story_material().names(text.emotion, text.text) for text in texts)


def test_a_call_for_more_keeps_what_is_written(tmp_path):
    path, model = tmp_path / "s.jsonl", FakeModel()
    few = write_stories(model, WritingPlan(("sad",), 8), path, settings=FAST)
    calls = model.calls
    more = write_stories(model, WritingPlan(("sad", "happy"), 16), path, settings=FAST)
    assert model.calls > calls and {text.id: text for text in few}.items() <= {t.id: t for t in more}.items()
    whole = write_stories(FakeModel(), WritingPlan(("sad", "happy"), 16), tmp_path / "w.jsonl", settings=FAST)
    assert more == whole  # the same as written at once
    calls = model.calls
    assert write_stories(model, WritingPlan(("sad",), 8), path, settings=FAST) == few
    assert write_stories(model, WritingPlan(("sad", "happy"), 16), path, settings=FAST) == more
    assert model.calls == calls  # asking for less and for all again wrote nothing
    with pytest.raises(UserError, match="another model, seed or settings"):
        write_stories(model, WritingPlan(("sad",), 8, seed=3), path, settings=FAST)


def test_the_report_says_per_emotion_what_was_kept_and_why_not(tmp_path):
    path = tmp_path / "s.jsonl"
    texts = write_stories(FakeModel(), WritingPlan(("sad",), 8, n_neutral=4), path, settings=FAST)
    rows = {row["emotion"]: row for row in read_report(path)["by_emotion"]}
    assert list(rows) == ["sad", "neutral"] and rows["sad"]["planned"] == 8
    assert rows["sad"]["kept"] == sum(text.emotion == "sad" for text in texts)
    thrown = read_report(path)["thrown_away"]
    for reason in ("named", "short", "broken"):
        assert sum(row[reason] for row in rows.values()) == thrown.get(reason, 0)


def test_texts_that_go_round_in_circles_are_broken():
    assert story_writer.is_broken("he went to the door and " * 6, 1 / 3)
    assert story_writer.is_broken("half a character \ufffd here", 1 / 3)
    assert not story_writer.is_broken(
        "She set the cup on the sill and looked for the key under the mat.", 1 / 3
    )
