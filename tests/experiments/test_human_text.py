"""Mean residuals of texts against a hook and a loop; how many neutral components are chosen, and on which
texts they are scored.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from experiments.tiny_world import tiny_model

from emocircuits.directions.human_scores import HumanSettings, two_halves
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.experiments.human_text import Cleaning, human_tables, text_means

TEXTS = [
    "The tests failed and he felt calm.",
    "She ran home.",
    "",
    "He",
    "She ran home, then he was sad again!",
]
FEW = HumanSettings(permutations=50, bootstrap=100, random_sets=20, components=(0, 1, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("llama"))


def streams(model, text):
    """Residual streams of one text by a hook, without any batch."""
    kept = {}
    hooks = [
        (site, lambda value, hook, site=site: kept.update({site: value[0].numpy()})) for site in model.sites
    ]
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=hooks):
        model.bridge(torch.tensor([model.encode(text)]))
    return kept


@pytest.mark.parametrize("from_token", [1, 3])
def test_means_equal_a_hook_and_a_loop(model, from_token):
    limits = dict.fromkeys(model.sites[:2], np.inf)
    found = text_means(model, TEXTS, limits, from_token=from_token, batch_tokens=12)
    lengths = [len(model.encode(text)) for text in TEXTS]
    assert found.read.tolist() == [length > from_token for length in lengths] and found.read.sum() >= 3
    assert found.n_tokens == sum(max(0, length - from_token) for length in lengths)
    assert found.n_long == 0 and found.n_cut == 0
    for row in np.flatnonzero(found.read):
        kept = streams(model, TEXTS[row])
        for place, site in enumerate(limits):
            np.testing.assert_allclose(
                found.means[place, row], kept[site][from_token:].mean(axis=0), atol=1e-5
            )


def test_tokens_that_are_too_long_do_not_count(model):
    site, text = model.sites[1], TEXTS[0]
    rows = streams(model, text)[site][1:]
    norms = np.linalg.norm(rows, axis=1)
    limit = float(np.sort(norms)[-2:].mean())  # between the longest and the next
    found = text_means(model, [text], {site: limit})
    assert found.n_long == 1 and found.n_tokens == len(rows) - 1
    np.testing.assert_allclose(found.means[0, 0], rows[norms <= limit].mean(axis=0), atol=1e-5)
    nothing = text_means(model, [text], {site: 1e-9})
    assert not nothing.read.any() and nothing.n_long == len(rows) and not nothing.means.any()


def test_of_a_text_beyond_the_context_the_beginning_is_read(model):
    short, long = " ".join(["home"] * 4), " ".join(["home"] * 3 * model.n_ctx)
    found = text_means(model, [short, long], {model.sites[0]: np.inf})
    assert found.n_cut == 1 and found.read.all()
    assert found.n_tokens == len(model.encode(short)) - 1 + model.n_ctx - 1


def planted(noise):
    """Texts of two emotions at ±1 on axis 2, with a loud axis 0 that says nothing; directions lean on it."""
    labels = np.repeat([0, 1], 60)
    texts = np.zeros((120, 4))
    texts[:, 2] = np.where(labels == 0, 1.0, -1.0)
    texts[:, 0] = noise * np.random.default_rng(0).standard_normal(120)
    raw = np.array([[0.8, 0, 0.6, 0], [0.8, 0, -0.6, 0]])
    return texts, labels, raw


def test_the_component_that_hides_the_emotion_is_chosen_on_one_half_and_scored_on_the_other():
    texts, labels, raw = planted(noise=30)
    scores, emotions = human_tables(texts, labels, raw, FEW, Cleaning(raw, np.eye(4)[:, :2], done=0))
    assert list(zip(scores["directions"], scores["components"], scores["texts"], strict=True)) == [
        ("as they are", 0, "all"),
        *(("cleaned", n, "all") for n in (0, 1, 2)),
        ("as they are", 0, "half"),
        ("cleaned", 1, "half"),
    ]
    first, second = two_halves(labels, FEW.seed)
    expected = one_vs_others_auroc(texts @ raw.T, labels).mean()
    assert scores["auroc"].iloc[:2].tolist() == pytest.approx([expected] * 2) and expected < 0.7
    assert scores["auroc"].iloc[2:4].tolist() == [1, 1]  # axis 0 out: perfectly apart
    here = one_vs_others_auroc(texts[second] @ raw.T, labels[second]).mean()
    assert scores["first_half"].iloc[0] == pytest.approx(
        one_vs_others_auroc(texts[first] @ raw.T, labels[first]).mean()
    )
    last = scores.iloc[-1]
    assert last["n"] == 60 and last["gain"] == pytest.approx(1 - here) and last["gain_low"] > 0
    assert emotions["n"].tolist() == [60, 60] and emotions["cleaned"].tolist() == [1, 1]
    assert emotions["auroc"].mean() == pytest.approx(expected)


def test_without_gain_the_fewest_components_are_taken_and_the_gain_is_zero():
    texts, labels, raw = planted(noise=0)
    scores, _ = human_tables(texts, labels, raw, FEW, Cleaning(raw, np.eye(4)[:, :2], done=0))
    last = scores.iloc[-1]
    assert last["components"] == 0 and last["gain"] == last["gain_low"] == last["gain_high"] == 0


def test_without_anything_to_clean_there_is_one_row():
    texts, labels, raw = planted(noise=1)
    scores, emotions = human_tables(texts, labels, raw, replace(FEW, seed=3))
    assert len(scores) == 1 and scores["components"].isna().all() and "cleaned" not in emotions
