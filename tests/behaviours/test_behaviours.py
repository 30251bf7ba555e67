import json

import pytest
import torch

from emocircuits.behaviours import BEHAVIOURS, PromptPair
from emocircuits.behaviours.bind import bind
from emocircuits.behaviours.metrics import log_odds
from emocircuits.behaviours.prompt_pairs import batches, encode_pairs, read_pairs, write_pairs
from emocircuits.behaviours.targets import resolve, resolve_both
from emocircuits.errors import UserError


class Words:
    """A model whose tokens are words: `single_token` and `encode` as the real wrapper has them."""

    def __init__(self, *known):
        self.known = list(known)

    def single_token(self, word):
        if word not in self.known:
            raise UserError(f"the word '{word}' is not one token: '{word[:2]}' | '{word[2:]}'")
        return self.known.index(word)

    def encode(self, text):
        return [0] + [1 + hash(word) % 50 for word in text.split()]


def line(**changes):
    return json.dumps({"id": "a", "clean": "he cried", "corrupt": "he sang", "split": "find"} | changes)


@pytest.fixture
def prompt_file(tmp_path):
    def make(*lines):
        path = tmp_path / "some.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


# cards
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BEHAVIOURS.names())
def test_card_contract(name):
    card = BEHAVIOURS.get(name)
    assert card.name == name and card.title and card.summary and card.expected_direction in (-1, 0, 1)
    for key, material in card.materials.items():
        assert material.name == key and material.behaviour == name
        if material.scenario:
            continue
        assert material.targets and material.honest and not set(material.targets) & set(material.honest)
        assert material.path.name == f"{name}.{key}.jsonl"


@pytest.mark.parametrize(
    "path", sorted({m.path for b in BEHAVIOURS for m in b.materials.values() if m.path.is_file()})
)
def test_shipped_prompt_file(path):
    pairs = read_pairs(path)
    assert (
        sum(pair.split == "find" for pair in pairs) >= 12
        and sum(pair.split == "score" for pair in pairs) >= 12
    )
    assert not {p.clean for p in pairs if p.split == "find"} & {p.clean for p in pairs if p.split == "score"}


def test_unknown_names_list_the_known():
    with pytest.raises(UserError, match="did you mean 'blackmail'.*reward_hacking"):
        BEHAVIOURS.get("blackmale")
    with pytest.raises(UserError, match="material of behaviour 'deception'.*tinystories"):
        BEHAVIOURS.get("deception").material("tinystory")


def test_card_is_frozen():
    with pytest.raises(AttributeError):
        BEHAVIOURS.get("blackmail").title = "other"


# targets
# -----------------------------------------------------------------------------------------------------------


def test_resolve_keeps_order():
    assert resolve(Words("tell", "hide", "ask"), ("hide", "tell")) == (1, 0)
    assert resolve_both(Words("tell", "hide", "ask"), ("hide",), ("ask", "tell")) == ((1,), (2, 0))


def test_resolve_refuses():
    words = Words("tell", "hide")
    with pytest.raises(UserError, match="'cheat' is not one token: 'ch' | 'eat'"):
        resolve(words, ("cheat",))
    with pytest.raises(UserError, match="'hide' and 'hide' are the same token"):
        resolve_both(words, ("hide",), ("tell", "hide"))
    with pytest.raises(UserError, match="no action words"):
        resolve(words, ())
    with pytest.raises(UserError, match="honest words are empty"):
        resolve_both(words, ("hide",), ())


# metric
# ------------------------------------------------------------------------------------------------------------


def test_metric_is_the_log_ratio_of_probabilities():
    torch.manual_seed(1)
    logits = torch.randn(3, 5, 11, dtype=torch.float64)
    metric = log_odds((2, 7), (1, 9, 4))
    p = logits[:, -1].softmax(-1)
    target, honest = p[:, [2, 7]].sum(-1), p[:, [1, 9, 4]].sum(-1)
    torch.testing.assert_close(metric(logits), (target / honest).log(), rtol=0, atol=1e-12)
    torch.testing.assert_close(metric.rate(logits), target / (target + honest), rtol=0, atol=1e-12)


def test_metric_of_one_word_each_is_the_logit_difference():
    logits = torch.zeros(1, 2, 4)
    logits[0, -1] = torch.tensor([0.0, 3.0, 1.0, 9.0])
    assert log_odds((1,), (2,))(logits).item() == 2.0


def test_metric_gradient_is_the_difference_of_softmaxes():
    logits = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    log_odds((0, 3), (5, 2))(logits).sum().backward()
    expected = torch.zeros_like(logits)
    expected[:, -1, [0, 3]] = logits[:, -1, [0, 3]].softmax(-1).detach()
    expected[:, -1, [5, 2]] = -logits[:, -1, [5, 2]].softmax(-1).detach()
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


def test_metric_ignores_other_tokens_and_constants():
    logits = torch.randn(2, 3, 6)
    metric = log_odds((0,), (5, 2))
    other = logits + 4.0
    other[:, -1, 1] += 10
    other[:, :-1] = 0
    torch.testing.assert_close(metric(other), metric(logits))


def test_metric_refuses():
    with pytest.raises(UserError, match="occur twice"):
        log_odds((1, 2), (2, 3))
    with pytest.raises(UserError, match="empty"):
        log_odds((), (2, 3))
    with pytest.raises(UserError, match="cover 4 tokens"):
        log_odds((1,), (9,))(torch.zeros(1, 2, 4))
    with pytest.raises(Exception, match="shape|Float|violates"):
        log_odds((1,), (2,))(torch.zeros(2, 4))


# prompt files
# ------------------------------------------------------------------------------------------------------


def test_write_read_is_identity(tmp_path):
    pairs = (
        PromptPair("a", "He’s “lost”", "He’s “safe”", "find", 0.25, 1.0, {"failures": 3}),
        PromptPair("b", "one two", "one three", "score"),
    )
    write_pairs(tmp_path / "p.jsonl", pairs)
    assert read_pairs(tmp_path / "p.jsonl") == pairs
    assert read_pairs(tmp_path / "p.jsonl", "score") == pairs[1:]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 holds list"),
        (line(id="b", colour="red"), "line 2: unknown field 'colour'"),
        (json.dumps({"id": "b", "clean": "x", "split": "find"}), "line 2: no field 'corrupt'"),
        (line(id="b", clean=""), "line 2: field 'clean'"),
        (line(id="b", clean="he cried "), "line 2: field 'clean' ends in white space"),
        (line(id="b", corrupt="he cried"), "line 2: clean and corrupt are the same"),
        (line(id="b", split="test"), "line 2: field 'split' is 'test'; expected find or score"),
        (line(id="b", true_clean=1.5), "line 2: field 'true_clean' is 1.5"),
        (line(id="b", details=[]), "line 2: field 'details'"),
        (line(), "line 2: id 'a' occurs twice"),
    ],
)
def test_bad_line_is_named(prompt_file, wrong, says):
    with pytest.raises(UserError, match=f"some.jsonl {says}"):
        read_pairs(prompt_file(line(), wrong))


def test_bad_file_is_named(tmp_path, prompt_file):
    with pytest.raises(UserError, match="does not exist"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no pairs"):
        read_pairs(prompt_file(""))
    with pytest.raises(UserError, match="split 'test'"):
        read_pairs(prompt_file(line()), "test")


# tokens
# ------------------------------------------------------------------------------------------------------------


def test_unequal_lengths_name_the_pair_and_both_lengths():
    with pytest.raises(UserError, match="pair 'vase' has 4 clean and 3 corrupt tokens"):
        encode_pairs(Words(), [PromptPair("vase", "he cried out", "he sang", "find")])


def test_batches_hold_every_pair_once_without_padding():
    pairs = [
        PromptPair(
            str(n),
            " ".join(["w"] * (2 + n % 3) + [f"c{n}"]),
            " ".join(["w"] * (2 + n % 3) + [f"d{n}"]),
            "find",
        )
        for n in range(11)
    ]
    model = Words()
    for size in (None, 1, 2, 100):
        made = batches(model, pairs, size)
        assert sorted(torch.cat([group.index for group in made]).tolist()) == list(range(11))
        for clean, corrupt, index in made:
            assert clean.shape == corrupt.shape and len(index) == len(clean) <= (size or 11)
            for row, place in enumerate(index.tolist()):
                assert clean[row].tolist() == model.encode(pairs[place].clean)
                assert corrupt[row].tolist() == model.encode(pairs[place].corrupt)


# binding
# -----------------------------------------------------------------------------------------------------------


def test_bind_takes_the_first_material_that_fits():
    bound = bind(BEHAVIOURS.get("deception"), OneToken("was", "had", "said"))
    assert (
        bound.material.name == "stories260k"
        and bound.metric.target_ids == (0, 1)
        and bound.metric.honest_ids == (2,)
    )
    assert len(bound.pairs("find", 5)) == 5 and bound.pairs("score", 999) == bound.score


def test_bind_tells_why_nothing_fits():
    with pytest.raises(UserError, match="tinystories: the word 'hide'.*stories260k: the word 'was'"):
        bind(BEHAVIOURS.get("deception"), OneToken("nothing"))
    with pytest.raises(UserError, match="the word 'hide' is not one token"):
        bind(BEHAVIOURS.get("deception"), OneToken("was", "had", "said"), ["tinystories"])


class OneToken(Words):
    """All texts are one token long, so every pair fits."""

    def encode(self, text):
        return [0]
