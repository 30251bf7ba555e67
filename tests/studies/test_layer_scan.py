"""Which layers to look at: one row per layer, the same whatever other layers are looked at."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from emocircuits.activations import collect
from emocircuits.activations.settings import CollectSettings
from emocircuits.activations.texts import load_texts
from emocircuits.cli.main import main
from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.errors import UserError
from emocircuits.models import load_model
from emocircuits.studies.layer_scan import COLUMNS, FEW, scan_layers

EMOTIONS = ("desperate", "calm")


@pytest.fixture(scope="module")
def model():
    return load_model("planted")


@pytest.fixture(scope="module")
def table(model):
    return scan_layers(model, "planted", emotions=EMOTIONS, stories=6, neutral=8, prompts=2)


def test_every_layer_has_a_row_with_the_quality_of_its_directions(model, table, tmp_path):
    assert tuple(table.columns) == COLUMNS and table["layer"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(table["depth"], [1 / 3, 2 / 3, 1])
    asked = CollectSettings(emotions=EMOTIONS, stories_per_emotion=6, neutral_texts=8, further_texts=0)
    store = collect(model, load_texts("planted", asked, model=model), tmp_path / "a.h5")
    learned = learn_directions(store, DirectionSettings(splits=2, bootstrap=200, from_depth=0.0, **FEW))
    np.testing.assert_allclose(table["auroc"], learned.held_out_auroc.mean(1), atol=1e-6)
    assert np.isfinite(table["push_z"]).all() and (table["names"] == 4).all()
    assert table["push_rank"].between(1, 4).all()


def test_fewer_layers_are_the_same_rows(model, table):
    some = scan_layers(
        replace(model, layers=(0, 2)), "planted", emotions=EMOTIONS, stories=6, neutral=8, prompts=2
    )
    pd.testing.assert_frame_equal(some, table.iloc[[0, 2]].reset_index(drop=True), rtol=1e-4)


def test_an_unknown_emotion(model):
    with pytest.raises(UserError, match="unknown emotion 'calmm'"):
        scan_layers(model, "planted", emotions=("desperate", "calmm"))


def test_the_command(capsys):
    words = ["layers", "planted", "--material", "planted", "--layers", "0,2", "--stories", "6", "--quiet"]
    assert main([*words, "--emotions", ",".join(EMOTIONS)]) == 0
    out = capsys.readouterr().out
    assert "emotions read best after block" in out and out.count("0.3333") == 1
    assert main([word if word != "0,2" else "7" for word in words]) == 2
    assert "layers names 7; expected blocks 0 to 2" in capsys.readouterr().err
