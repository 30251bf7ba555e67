"""Controls are scored like the emotion itself, on the same held-out stories."""

import numpy as np

import emocircuits as emo


def test_the_emotion_has_the_score_of_its_directions_and_controls_are_near_chance(debug_run):
    run = emo.Run.open(debug_run)
    directions, table = run.directions, emo.control_aurocs(run)
    assert list(table.columns) == ["kind", "name", "auroc"] and table["kind"].iloc[0] == "emotion"
    site = directions.site_index(directions.read_site)
    own = directions.held_out_auroc[site, directions.emotions.index(run.recipe.emotion)]
    np.testing.assert_allclose(table["auroc"].iloc[0], own, atol=1e-6)
    sizes = table["kind"].value_counts()
    assert {kind: len(control.names) for kind, control in directions.controls.items()} == {
        kind: sizes[kind] for kind in sizes.index if kind != "emotion"
    }
    random = table[table["kind"].isin(["random", "shuffled"])]["auroc"]
    assert random.mean() < own and table["auroc"].between(0, 1).all()
