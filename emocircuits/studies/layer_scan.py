"""Which layers to look at: where emotions read best, and where a push acts.

At every layer directions are learned from labelled stories and scored on held-out ones, and the model is
pushed along each of them a little on neutral prompts: an emotion that acts raises its own name among all
tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from emocircuits.activations import collect
from emocircuits.activations.settings import CollectSettings
from emocircuits.activations.texts import load_texts
from emocircuits.directions import DirectionSettings, learn_directions
from emocircuits.experiments.logit_lens import lens_summary, logit_lens
from emocircuits.models.language_model import LanguageModel
from emocircuits.names import depth_of, layer_of
from emocircuits.progress import track

TOKENS = 24  # of a neutral prompt
# controls say more than a choice of layers needs
FEW = {"random_controls": 0, "covariance_controls": 0, "shuffled_controls": 0, "content_controls": 0}
COLUMNS = (
    "layer",
    "depth",
    "residual_norm",
    "auroc",
    "auroc_low",
    "auroc_high",
    "accuracy",
    "push_z",
    "push_rank",
    "names",
)


def scan_layers(
    model: LanguageModel,
    material: str = "organism",
    *,
    emotions: Sequence[str] = (),
    stories: int = 16,
    neutral: int = 40,
    prompts: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per layer.

    Args:
        model: the model, of which all chosen layers are read at once.
        material: where stories come from (`emocircuits.load_texts`).
        emotions: which emotions; all of the material by default.
        stories: stories of an emotion to learn from.
        neutral: neutral texts.
        prompts: neutral prompts that are pushed.
        seed: seed of texts and resamples.

    Returns:
        `COLUMNS`: mean held-out AUROC over emotions with its 95 % interval, and the accuracy among them;
            by how many standard deviations over the vocabulary a push raises the emotion's own name
            (`push_z`, mean), and its rank among the `names` of these emotions (`push_rank`, mean; 1 is the
            most raised). The last three are for names that are single tokens.

    Raises:
        UserError: what `load_texts` and `learn_directions` refuse.
    """
    asked = CollectSettings(
        emotions=tuple(emotions), stories_per_emotion=stories, neutral_texts=neutral, further_texts=0
    )
    texts = load_texts(material, asked, seed=seed, model=model)
    with TemporaryDirectory(prefix="emocircuits-layers-") as folder:
        store = collect(model, texts, Path(folder) / "activations.h5")
        settings = DirectionSettings(from_depth=0.0, to_depth=1.0, splits=2, bootstrap=200, **FEW)
        directions = learn_directions(store, settings, seed=seed)
    read = directions.site_table().set_index("site")
    plain = [text.text for text in texts if text.kind == "neutral"][:prompts]
    ids = [model.encode(text)[:TOKENS] for text in plain]
    rows = []
    for site in track(directions.sites, "push"):
        pushed = [directions.direction(emotion, site) for emotion in directions.emotions]
        own = lens_summary(logit_lens(model, pushed, ids), model)
        known = own.dropna(subset=["own_z_total"])
        rows.append(
            (
                layer_of(site),
                depth_of(site, model.n_layers),
                *read.loc[site, ["residual_norm", "auroc", "auroc_low", "auroc_high", "accuracy"]],
                known["own_z_total"].mean() if len(known) else np.nan,
                known["own_rank_total"].mean() if len(known) else np.nan,
                len(known),
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
