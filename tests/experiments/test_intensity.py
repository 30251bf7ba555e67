"""Readings over the numbers of a template, and their trends against SciPy."""

import numpy as np
import pandas as pd
import pytest
from experiments.tiny_world import tiny_directions, tiny_model
from scipy.stats import spearmanr

from emocircuits.errors import UserError
from emocircuits.experiments.intensity import (
    IntensityTemplate,
    intensity_readings,
    intensity_trends,
    read_templates,
)
from emocircuits.experiments.readings import token_readings


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("tiny"))
    return model, tiny_directions(model)


def test_trends_equal_scipy_and_turn_with_gravity():
    source = np.random.default_rng(0)
    rows = [
        (
            template,
            grave,
            value,
            emotion,
            float(source.standard_normal() + (value if emotion == "sad" else -value) * sign),
        )
        for template, grave, sign in (("dose", "high", 1), ("air", "low", -1), ("debt", "high", 1))
        for value in (1.0, 2.0, 3.0, 4.0, 9.0)
        for emotion in ("sad", "calm")
    ]
    table = pd.DataFrame(rows, columns=["template", "grave", "value", "emotion", "reading"])
    found = intensity_trends(table).set_index("emotion")
    for emotion in ("sad", "calm"):
        rhos = []
        for template, group in table[table.emotion == emotion].groupby("template"):
            rho = spearmanr(group.value, group.reading).statistic
            rhos.append(-rho if template == "air" else rho)
        assert found.loc[emotion, "rho"] == pytest.approx(np.mean(rhos))
        assert found.loc[emotion, "rising"] == np.mean(np.array(rhos) > 0)
    assert found.loc["sad", "rho"] > 0.5 > -0.5 > found.loc["calm", "rho"]
    assert found.loc["sad", "ci_low"] <= found.loc["sad", "rho"] <= found.loc["sad", "ci_high"] and list(
        found.index
    ) == ["sad", "calm"]


def test_readings_are_taken_at_the_last_token_and_averaged_over_names(read):
    model, directions = read
    template = IntensityTemplate("dose", "{name} took {n} of them.", (1, 20, 300))
    table = intensity_readings(model, directions, [template], ["The doctor", "She"], emotions=["sad"])
    for row in table.itertuples():
        texts = [model.encode(f"{name} took {row.value:g} of them.") for name in ("The doctor", "She")]
        expected = np.mean([values[-1, 0] for values in token_readings(model, directions, texts, ["sad"])])
        assert row.reading == pytest.approx(expected, abs=1e-6)
    assert set(table.template) == {"dose"} and len(table) == 3


def test_the_templates_that_come_with_the_package():
    templates, names = read_templates()
    assert len(templates) == 10 and {one.grave for one in templates} == {"high", "low"} and len(names) >= 2


@pytest.mark.parametrize(
    "text, word",
    [
        ("[[template]]\nid='a'\ntext='no place'\nvalues=[1,2,3]", "a text with {n}"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[1,2]", "at least three rising values"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[3,2,1]", "rising"),
        ("[[template]]\nid='a'\ntext='{n}'\nvalues=[1,2,3]\ngrave='up'", "'high' or 'low'"),
        ("[[template]]\nid='a'", "is not right"),
        ("template = 3", "is not right"),
        ("= =", "is not right"),
    ],
)
def test_bad_templates(tmp_path, text, word):
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=word):
        read_templates(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_templates(tmp_path / "none.toml")
