"""Self-written stories: material, sampling, filter, freezing, resuming, JSONL."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emocircuits.collect import self_written, story_writer
from emocircuits.collect.prompts import LabelledText
from emocircuits.collect.sampling import choose, sample_continuations
from emocircuits.collect.self_written import (
    StorySettings,
    WritingPlan,
    read_report,
    report_path,
    write_stories,
)
from emocircuits.collect.story_files import read_stories, stories_jsonl
from emocircuits.collect.story_material import fill, plan_openings, story_material
from emocircuits.collect.story_writer import whole_sentences
from emocircuits.errors import Failure, UserError
from tests.conftest import real_model

SPOKEN = ["<s>", "</s>", "he", "ran", "home.", "far.", "sad", "Sad", "sadly.", "the", "dog"]
FAST = StorySettings(new_tokens=12, min_new_tokens=2, batch_size=5)


class FakeModel:
    """As much of a `LanguageModel` as writing needs: tokens are words, the next word depends on the last one
    only.
    """

    name, content_hash, bos_id, n_ctx, d_vocab = "fake", "abc", 0, 512, 2000

    def __init__(self):
        self.words, self.calls = list(SPOKEN), 0
        self.table = torch.full((self.d_vocab, self.d_vocab), -30.0)
        self.table[:, : len(SPOKEN)] = torch.randn(
            self.d_vocab, len(SPOKEN), generator=torch.Generator().manual_seed(1)
        )
        self.table[:, :2] = -3
        self.bridge = SimpleNamespace(original_model=self.network, cfg=SimpleNamespace(device="cpu"))
        self.tokenizer = SimpleNamespace(
            eos_token_id=1,
            decode=lambda ids, skip_special_tokens: " ".join(self.words[i] for i in ids if i > 1),
        )

    def network(self, tokens, past_key_values=None, use_cache=True):
        assert (tokens.shape[1] == 1) == (past_key_values is not None)
        self.calls += 1
        return SimpleNamespace(logits=self.table[tokens], past_key_values=tokens)

    def encode(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [0, *(self.words.index(word) for word in text.split())]

    def token_texts(self, ids):
        return [" " + self.words[i] if i < len(self.words) else "" for i in ids]


# material
# ----------------------------------------------------------------------------------------------------------


def test_material_is_rich_enough():
    material = story_material()
    assert len(material.emotions) == 13 and len(material.topics) >= 10
    for emotion in material.situations:
        assert len(material.situations[emotion]) >= 6 and len(set(material.situations[emotion])) == len(
            material.situations[emotion]
        )
        assert material.forbidden[emotion]
    for emotion in material.emotions:
        assert emotion in material.forbidden[emotion] and set(material.forbidden[emotion]) <= set(
            material.forbidden[""]
        )


def test_no_opening_names_its_emotion():
    material = story_material()
    for emotion, situations in material.situations.items():
        for sentence in situations:
            assert not material.names(emotion, sentence), f"{emotion}: {sentence}"
    for openings in material.topics.values():
        for sentence in openings:
            assert not material.names("", sentence), sentence


def test_no_situation_serves_two_emotions():
    every = [sentence for situations in story_material().situations.values() for sentence in situations]
    assert len(set(every)) == len(every)


def test_forbidden_words_are_whole_words_in_any_case():
    material = story_material()
    assert material.names("sad", "He was SAD.") and material.names("sad", "Sadly, he left.")
    assert not material.names("sad", "He put the saddle on the horse.")
    assert material.names("", "They cried.") and not material.names("sad", "They cried.")


def test_plan_is_balanced_and_splits_by_situation():
    material = story_material()
    planned = [opening.label for opening in plan_openings(material, "sad", 96, seed=3)]
    assert len({label.id for label in planned}) == 96
    counts = np.array([sum(label.topic == topic for label in planned) for topic in material.topics])
    assert (counts == 8).all()
    held_out = [label.split == "held_out" for label in planned]
    assert sum(held_out) == 24
    sentences = {
        split: {label.text.split(". ", 1)[1] for label in planned if label.split == split}
        for split in ("train", "held_out")
    }
    assert not sentences["train"] & sentences["held_out"]


def test_held_out_share_counts_situations():
    for share, per_eight in ((0.01, 1), (0.25, 2), (0.5, 4)):
        planned = plan_openings(story_material(), "sad", 80, 0, share)
        assert sum(opening.label.split == "held_out" for opening in planned) == 10 * per_eight


def test_topics_are_independent_of_emotions():
    material = story_material()
    table = np.array(
        [
            [
                sum(o.label.topic == topic for o in plan_openings(material, emotion, 96, 0))
                for topic in material.topics
            ]
            for emotion in material.emotions
        ]
    )
    assert (table == 8).all()


def test_plan_is_a_function_of_the_seed():
    material = story_material()
    assert plan_openings(material, "sad", 8, 0) == plan_openings(material, "sad", 8, 0)
    assert plan_openings(material, "sad", 8, 0) != plan_openings(material, "sad", 8, 1)
    assert plan_openings(material, "sad", 4, 0) == plan_openings(material, "sad", 8, 0)[:4]


def test_fill():
    text = fill(
        "{name} lost {his} hat. {friend} saw {him}. {He} cried and {he} ran.", "Lily", "she", friend="Tim"
    )
    assert text == "Lily lost her hat. Tim saw her. She cried and she ran."


# sampling
# ----------------------------------------------------------------------------------------------------------


def test_choose_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.199, 0.201, 0.499, 0.501, 0.999], dtype=torch.float64)
    assert choose(logits, uniform, 1.0, None).tolist() == [0, 0, 1, 1, 2, 2]


def test_choose_has_the_right_frequencies():
    logits = torch.randn(5)
    uniform = torch.from_numpy(np.random.default_rng(0).random(200_000))
    drawn = torch.bincount(choose(logits.expand(len(uniform), 5), uniform, 0.7, None), minlength=5) / len(
        uniform
    )
    torch.testing.assert_close(drawn, (logits / 0.7).softmax(-1), rtol=0, atol=4e-3)


def test_choose_never_takes_a_banned_token():
    logits, banned = torch.zeros(1000, 4), torch.tensor([False, True, False, True]).expand(1000, 4)
    uniform = torch.from_numpy(np.random.default_rng(0).random(1000))
    assert set(choose(logits, uniform, 1.0, banned).tolist()) == {0, 2}
    assert set(choose(logits + torch.tensor([0.0, 9, 1, 9]), uniform, 0.0, banned).tolist()) == {2}


def test_rows_do_not_depend_on_their_batch():
    model = FakeModel()
    prompts = [[0, 2], [0, 3, 4, 5, 6], [0, 9, 9]]
    uniforms = [np.random.default_rng(row).random(4 + 3 * row) for row in range(3)]
    together = sample_continuations(model, prompts, uniforms, stop=(1,))
    alone = [sample_continuations(model, [prompts[row]], [uniforms[row]], stop=(1,))[0] for row in range(3)]
    assert together == alone


def test_stop_token_ends_a_text():
    model = FakeModel()
    model.table[:, 1] = 50.0
    assert sample_continuations(model, [[0, 2], [0, 3, 4]], [np.full(5, 0.5)] * 2, stop=(1,)) == [[], []]


def test_as_many_tokens_as_numbers():
    made = sample_continuations(
        FakeModel(), [[0, 2], [0, 3, 4], [0, 5]], [np.full(5, 0.5), np.full(1, 0.5), np.zeros(0)]
    )
    assert [len(tokens) for tokens in made] == [5, 1, 0]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("He sat. He ran", "He sat."),
        ('He sat. "Go!" he said. So', 'He sat. "Go!" he said.'),
        ('He sat. He said, "Go." Then', 'He sat. He said, "Go."'),
        ("He sat. So", "He sat."),
    ],
)
def test_whole_sentences(text, cut):
    assert whole_sentences("He sat.", text) == cut


# writing
# -----------------------------------------------------------------------------------------------------------


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


# JSONL
# ------------------------------------------------------------------------------------------------------------


def test_written_and_read_is_identity(tmp_path):
    texts = [
        LabelledText("a", "He “ran”.", "sad", "park", split="held_out", named=True),
        LabelledText("b", "A cup.", kind="neutral"),
    ]
    (tmp_path / "t.jsonl").write_text(stories_jsonl(texts), encoding="utf-8")
    assert read_stories(tmp_path / "t.jsonl") == texts


def test_user_file_needs_little(tmp_path):
    (tmp_path / "mine.jsonl").write_text(
        '{"text": "He ran.", "emotion": "scared"}\n\n{"text": "A cup.", "kind": "neutral"}\n'
    )
    first, second = read_stories(tmp_path / "mine.jsonl")
    assert (
        first == LabelledText("mine/1", "He ran.", "scared")
        and second.id == "mine/3"
        and second.kind == "neutral"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("3", "line 2 holds int"),
        ('{"text": "x", "emotion": "sad", "colour": 1}', "line 2: unknown field 'colour'"),
        ('{"text": 3, "emotion": "sad"}', "line 2: field 'text' is 3; expected str"),
        ('{"text": "x", "emotion": "sad", "named": "no"}', "line 2: field 'named' is 'no'; expected bool"),
        ('{"emotion": "sad"}', "line 2: field 'text' is missing"),
        ('{"text": "x"}', "line 2: field 'emotion' is missing"),
        ('{"id": "a", "text": "x", "emotion": "sad"}', "line 2: id 'a' occurs twice"),
    ],
)
def test_bad_line_is_named(tmp_path, wrong, says):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "x", "emotion": "sad"}) + "\n" + wrong + "\n")
    with pytest.raises(UserError, match=f"mine.jsonl {says}"):
        read_stories(path)


def test_bad_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_stories(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no texts"):
        read_stories(tmp_path / "empty.jsonl")


# real models
# -------------------------------------------------------------------------------------------------------


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


@pytest.mark.real_model
def test_cached_sampling_equals_whole_forwards(tmp_path):
    from emocircuits.models.loader import load_model

    model = load_model(str(real_model("tinystories-sp2M")), trust_remote_code=True)
    prompts = [model.encode("Tim lost his hat. He"), model.encode("Lily and Tom got a big cake. She was")]
    uniforms = list(np.random.default_rng(0).random((2, 12)))
    for row, written in enumerate(sample_continuations(model, prompts, uniforms)):
        tokens = torch.tensor([prompts[row]])
        for step in range(12):
            with torch.no_grad():
                chosen = choose(model.bridge(tokens)[:, -1], torch.tensor([uniforms[row][step]]), 1.0, None)
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
        assert written == tokens[0, len(prompts[row]) :].tolist()
