"""Figures: five files each, equal bytes for equal data, vector fonts, column widths, and clear errors for
missing data.
"""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from fixtures.make_run import EMOTIONS, make_run

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.run_files import RunFiles
from emocircuits.errors import UserError
from emocircuits.figures import (
    FIGURES,
    draw_figure,
    from_run,
    picture,
    show_figure,
    write_figure,
    write_figures,
)
from emocircuits.figures.emotion_pca import axis_of, correlation
from emocircuits.figures.style import VENUES
from emocircuits.provenance import sha256_file

SITES, NAMES = [f"blocks.{layer}.hook_resid_post" for layer in range(4)], list(EMOTIONS)
EXTRA = {
    "direction_sites.csv": pd.DataFrame(
        {
            "site": SITES,
            "auroc": 0.8,
            "auroc_low": 0.78,
            "auroc_high": 0.82,
            "bayes_auroc": 0.95,
            "linear_auroc": 0.9,
        }
    ),
    "geometry.csv": pd.DataFrame(
        [
            (site, name, component, 0.9 / component, 0.5 / component, 0.95 / component)
            for site in SITES
            for name in ("valence", "arousal")
            for component in (1, 2, 3)
        ],
        columns=["site", "coordinate", "component", "abs_r", "ci_low", "ci_high"],
    ),
    "layer_similarity.csv": pd.DataFrame(
        [(one, two, 1.0 if one == two else 0.5, 0.4, 0.6) for one in SITES for two in SITES],
        columns=["site", "other", "rho", "ci_low", "ci_high"],
    ),
    "emotion_clusters.csv": pd.DataFrame(
        {"emotion": NAMES, "cluster": [i % 3 for i in range(len(NAMES))], "agreement": 0.7}
    ),
    "logit_lens.csv": pd.DataFrame(
        [
            (name, part, end, rank, f" t{rank}$\x00", sign * 3.0, sign * 1.0, sign * 2.0)
            for name in ("desperate", "calm")
            for part in ("total", "direct", "later")
            for end, sign in (("top", 1), ("bottom", -1))
            for rank in range(1, 11)
        ],
        columns=["direction", "part", "end", "rank", "token", "total", "direct", "later"],
    ),
    "logit_lens_summary.csv": pd.DataFrame(
        {
            "direction": NAMES,
            "own_rank_total": range(1, len(NAMES) + 1),
            "own_rank_direct": 3.0,
            "n_names": len(NAMES),
        }
    ),
    "intensity.csv": pd.DataFrame(
        [
            (template, grave, value, name, np.sin(value + len(name)))
            for template, grave in (("dose", "high"), ("air", "low"))
            for value in (1.0, 2.0, 4.0)
            for name in NAMES
        ],
        columns=["template", "grave", "value", "emotion", "reading"],
    ),
    "intensity_trends.csv": pd.DataFrame(
        {"emotion": NAMES, "rho": np.linspace(-0.5, 0.5, len(NAMES)), "ci_low": -0.6, "ci_high": 0.6}
    ),
    "preferences.csv": pd.DataFrame(
        {
            "activity": list("abcd"),
            "category": ["x$", "x$", "y", "y"],
            "elo": [300.0, 100.0, -50.0, -350.0],
            "standard_error": 5.0,
        }
    ),
    "preference_emotions.csv": pd.DataFrame(
        [
            (name, "emotion", np.sin(i), 20 * np.sin(i), 20 * np.sin(i) - 5, 20 * np.sin(i) + 5)
            for i, name in enumerate(NAMES)
        ]
        + [(f"random {i}", "random", np.nan, i - 2.0, i - 3.0, i - 1.0) for i in range(5)],
        columns=["direction", "kind", "r", "delta_elo", "delta_low", "delta_high"],
    ),
    "speakers/readings.csv": pd.DataFrame(
        [
            (one, two, 0.8 if one == two else 0.5, 0.45, 0.82)
            for one in ("present", "other")
            for two in ("present", "other")
        ],
        columns=["directions", "label", "auroc", "ci_low", "ci_high"],
    ),
    "speakers/similarity.csv": pd.DataFrame(
        [("present", "other", 0.1, 0.0, 0.9, 0.8, 0.95)],
        columns=["role", "other", "same", "different", "structure", "structure_low", "structure_high"],
    ),
    "mediation.csv": pd.DataFrame(
        [
            (behaviour, held, held.split()[0], 20, value, value - 0.1, value + 0.1, 48)
            for behaviour in ("blackmail", "reward_hacking")
            for held, value in (
                ("matched", 0.7),
                ("cosine", 0.4),
                ("all", 1.0),
                ("random 0", 0.0),
                ("random 1", 0.02),
            )
        ],
        columns=["behaviour", "held", "kind", "features", "mediated", "ci_low", "ci_high", "n"],
    ),
    "coherence.csv": pd.DataFrame(
        [
            (name, kind, strength, 5 + abs(strength), abs(strength) / 4)
            for name, kind in (("desperate", "emotion"), ("random 0", "random"))
            for strength in (-0.5, 0.0, 0.5)
        ],
        columns=["direction", "kind", "strength", "perplexity", "repetition"],
    ),
    "causal.csv": pd.DataFrame(
        [
            (
                "desperate",
                SITES[3],
                what,
                feature,
                behaviour,
                kind,
                effect,
                effect - 0.1,
                effect + 0.1,
                -0.1,
                0.1,
                0.01,
            )
            for behaviour in ("blackmail", "reward_hacking")
            for kind in ("steer", "ablate")
            for what, feature, effect in (
                *(("feature", n, 0.01 * n) for n in range(20)),
                ("carriers", -1, 0.5),
                ("direction", -1, 0.9),
            )
        ],
        columns=[
            "emotion",
            "site",
            "what",
            "feature",
            "behaviour",
            "intervention",
            "effect",
            "ci_low",
            "ci_high",
            "random_low",
            "random_high",
            "q_value",
        ],
    ),
    "failures.csv": pd.DataFrame(
        {
            "failures": range(6),
            "rate": np.linspace(0.2, 0.9, 6),
            "ci_low": np.linspace(0.15, 0.85, 6),
            "ci_high": np.linspace(0.25, 0.95, 6),
            "true_rate": np.linspace(0.22, 0.88, 6),
        }
    ),
    "sweep/sweep.csv": pd.DataFrame(
        [
            (
                "blocks.2.hook_resid_post",
                kind,
                width,
                k,
                k * 0.98,
                2 / k + 0.01 * i,
                1 - 0.5 / k,
                4 / k,
                3 / k,
                1 / k,
            )
            for i, (kind, width) in enumerate([("topk", 1024), ("topk", 2048), ("batchtopk", 1024)])
            for k in (8, 16, 32)
        ],
        columns=[
            "site",
            "architecture",
            "d_sae",
            "k",
            "l0",
            "fvu",
            "ce_loss_recovered",
            "pca_fvu",
            "frozen_fvu",
            "randomised_fvu",
        ],
    ),
    "readings.csv": pd.DataFrame(
        [
            ("a$b", i, f" t{i}\x00", emotion, np.sin(i))
            for emotion in ("desperate", "calm")
            for i in range(20)
        ],
        columns=["transcript", "position", "token", "emotion", "value"],
    ),
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = make_run(tmp_path_factory.mktemp("run"))
    (directory / "sweep").mkdir()
    for name, table in EXTRA.items():
        (directory / name).parent.mkdir(exist_ok=True)
        table.to_csv(directory / name, index=False)
    return directory


@pytest.fixture(scope="module")
def tables(run_dir):
    return from_run(run_dir)


def test_every_registered_figure_has_its_data_in_a_full_run(tables):
    assert {card.name for card, *_ in tables.values()} == set(FIGURES.names())
    assert {"circuit_blackmail", "circuit_reward_hacking"} <= set(tables)


@pytest.mark.parametrize("name", FIGURES.names())
def test_a_figure_writes_its_five_files_twice_the_same(name, tables, tmp_path):
    file, (card, table, inputs) = next(
        (file, found) for file, found in tables.items() if found[0].name == name
    )
    before = table.copy(deep=True)
    for turn in ("one", "two"):
        write_figure(card, table, tmp_path / turn, name=file, inputs=inputs)
    pd.testing.assert_frame_equal(table, before)
    for end in ("pdf", "svg", "png", "csv", "json"):
        first, second = ((tmp_path / turn / f"{file}.{end}").read_bytes() for turn in ("one", "two"))
        assert first == second, end
        assert len(first) > 100
    pdf = (tmp_path / "one" / f"{file}.pdf").read_bytes()
    assert b"/Type3" not in pdf
    about = json.loads((tmp_path / "one" / f"{file}.json").read_text())
    assert about["data"] == sha256_file(tmp_path / "one" / f"{file}.csv")
    assert about["inputs"] == inputs
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in inputs.values())
    back = pd.read_csv(tmp_path / "one" / f"{file}.csv")
    assert set(card.columns) <= set(back.columns)
    assert len(back) == len(table)


@pytest.mark.parametrize("venue", VENUES)
def test_widths_are_column_widths(venue, tables):
    for card, table, _ in tables.values():
        assert draw_figure(card, table, venue).get_figwidth() <= VENUES[venue][1] + 1e-9


def test_columns_are_checked(tables):
    card, table, _ = tables["steering"]
    with pytest.raises(UserError, match="no column ci_low"):
        draw_figure(card, table.drop(columns="ci_low"))


def test_the_csv_is_what_was_plotted(tables):
    card, table, _ = tables["faithfulness"]
    axes = draw_figure(card, table).axes[0]
    curve = next(line for line in axes.lines if line.get_label().startswith("circuit"))
    rows = table[table.behaviour == "blackmail"]
    assert curve.get_xydata() == pytest.approx(rows[["size", "faithfulness"]].to_numpy())


def test_cosines_equal_the_directions(tables, run_dir):
    _, table, _ = tables["emotion_similarity"]
    directions = EmotionDirections.load(run_dir / "directions.h5")
    for row in table.sample(50, random_state=0).itertuples():
        expected = directions.vector(row.emotion, directions.read_site) @ directions.vector(
            row.other, directions.read_site
        )
        assert row.cosine == pytest.approx(expected, abs=1e-6)
    assert sorted(set(table.row)) == list(range(len(directions.emotions)))


def test_components_equal_those_of_scikit_learn(tables, run_dir):
    from sklearn.decomposition import PCA

    _, table, _ = tables["emotion_pca"]
    directions = EmotionDirections.load(run_dir / "directions.h5")
    vectors = directions.vectors[directions.site_index(directions.read_site)].astype(np.float64)
    pca = PCA(3).fit(vectors)
    scores = pca.transform(vectors)
    for i in range(3):
        found = table[f"pc{i + 1}"].to_numpy()
        assert min(np.abs(found - scores[:, i]).max(), np.abs(found + scores[:, i]).max()) < 1e-6
        assert table[f"explained_pc{i + 1}"].iloc[0] == pytest.approx(pca.explained_variance_ratio_[i])
    across = axis_of(table, "valence")
    assert correlation(table[across].to_numpy(), table.valence.to_numpy())[0] > 0.9


def test_fisher_interval():
    from scipy.stats import pearsonr

    x = np.random.default_rng(0).normal(size=30)
    y = x + np.random.default_rng(1).normal(size=30)
    expected = pearsonr(x, y)
    interval = expected.confidence_interval()
    assert correlation(x, y) == pytest.approx((expected.statistic, interval.low, interval.high), abs=1e-6)


def test_missing_data_is_an_error_that_names_file_and_stage(run_dir, tmp_path):
    make_run(tmp_path)
    (tmp_path / "steering.csv").unlink()
    with pytest.raises(UserError, match="steering.csv.*'steer'"):
        write_figures(tmp_path)
    with pytest.raises(UserError, match="failures.csv"):
        from_run(tmp_path, ["decision_failures"])
    with pytest.raises(UserError, match="did you mean 'steering'"):
        from_run(tmp_path, ["steerin"])
    with pytest.raises(UserError, match="no directory"):
        from_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="unknown venue"):
        write_figures(run_dir, tmp_path / "out", only=["sae_quality"], venue="naturee")


def test_the_contact_sheet_shows_every_figure(run_dir, tmp_path):
    paths = write_figures(run_dir, tmp_path, only=["sae_quality", "faithfulness"])
    sheet = (tmp_path / "index.html").read_text()
    assert paths[-1] == tmp_path / "index.html"
    for path in re.findall(r'(?:src|href)="([^"]+)"', sheet):
        assert (tmp_path / path).is_file()
    again = write_figures(run_dir, tmp_path / "two", only=["sae_quality", "faithfulness"], processes=2)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_reading_notes_what_was_read(run_dir):
    run = RunFiles(run_dir)
    run.table("saes.csv")
    assert run.read == {"saes.csv": sha256_file(run_dir / "saes.csv")}


def test_single_points_and_single_emotions_are_drawn():
    card = FIGURES.get("attribution_exact")
    assert picture(
        draw_figure(
            card,
            pd.DataFrame(
                {
                    "behaviour": ["a$"],
                    "node": ["m0"],
                    "predicted": [0.0],
                    "exact": [0.0],
                    "pearson": [None],
                    "slope": [None],
                    "sign_agreement": [1.0],
                }
            ),
        ),
        "png",
    )
    card = FIGURES.get("emotion_similarity")
    assert picture(
        draw_figure(
            card, pd.DataFrame({"emotion": ["a"], "other": ["a"], "cosine": [1.0], "row": [0], "column": [0]})
        ),
        "svg",
    )


def test_outlined_text_needs_no_font(tables):
    card, table, _ = tables["sae_quality"]
    figure = draw_figure(card, table)
    assert b"<text" in picture(figure, "svg")
    assert b"<text" not in picture(figure, "svg", outlines=True)
    assert io.BytesIO(picture(figure, "png")).read(4) == b"\x89PNG"


def test_one_figure_is_shown_and_written(run_dir, tmp_path):
    shown = show_figure(run_dir, "circuit_blackmail", tmp_path)
    assert shown.name == "circuit_blackmail" and shown._repr_png_().startswith(b"\x89PNG")
    assert sorted(path.suffix for path in shown.files) == [".csv", ".json", ".pdf", ".png", ".svg"]
    assert (tmp_path / "circuit_blackmail.png").read_bytes() == shown.png
    for name, known in (
        ("circut", "circuit"),
        ("circuit_blackmial", "circuit_blackmail"),
        ("steerin", "steering"),
    ):
        with pytest.raises(UserError, match=f"unknown figure '{name}'.*{known}"):
            show_figure(run_dir, name)
