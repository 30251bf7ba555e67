"""Clusters on the plane of components: the most central emotions lie nearest to their centre."""

import numpy as np
import pandas as pd
import pytest
from fixtures.make_run import make_run

from emocircuits.artifacts.run_files import RunFiles
from emocircuits.errors import UserError
from emocircuits.figures.emotion_clusters import load


@pytest.fixture
def run(tmp_path):
    run = RunFiles(make_run(tmp_path))
    emotions = run.directions.emotions
    rows = [(emotion, i % 2, 0.9) for i, emotion in enumerate(emotions)]
    table = pd.DataFrame(rows, columns=["emotion", "cluster", "agreement"])
    table.to_csv(tmp_path / "emotion_clusters.csv", index=False)
    return run


def test_central_is_the_distance_to_the_mean_of_the_cluster(run):
    table, directions = load(run)["emotion_clusters"], run.directions
    vectors = directions.vectors[directions.site_index(directions.read_site)].astype(np.float64)
    for number in (0, 1):
        expected = np.linalg.norm(vectors[number::2] - vectors[number::2].mean(0), axis=1)
        np.testing.assert_allclose(table[table.cluster == number].central, expected)


def test_one_cluster_is_no_picture(run, tmp_path):
    table = pd.read_csv(tmp_path / "emotion_clusters.csv").assign(cluster=0)
    table.to_csv(tmp_path / "emotion_clusters.csv", index=False)
    with pytest.raises(UserError, match="one cluster"):
        load(run)
