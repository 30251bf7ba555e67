"""A store of stories in which emotions, topics and noise are known vectors."""

import numpy as np
import pandas as pd

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter

D, SITES = 12, ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post")


EMOTIONS, TOPICS = ("angry", "calm", "desperate", "happy"), ("cooking", "music", "rain")


START = 4


def make_store(path, *, per_cell=3, noise=1.0, seed=0):
    """Stories = emotion vector + topic vector + noise; neutral text varies most along the first two axes;
    position 0 is huge.
    """
    source = np.random.default_rng(seed)
    truth = {name: source.standard_normal((len(SITES), D)) for name in (*EMOTIONS, *TOPICS)}
    rows, tokens, values = [], [], []
    for split in ("train", "held_out"):
        for emotion in EMOTIONS:
            for topic in TOPICS:
                for copy in range(per_cell):
                    n = int(source.integers(START + 1, 20))
                    rows.append(
                        dict(
                            id=f"{split}/{emotion}/{topic}/{copy}",
                            emotion=emotion,
                            topic=topic,
                            kind="story",
                            behaviour="",
                            side="",
                            split=split,
                            named=False,
                        )
                    )
                    x = (
                        3
                        + 2 * truth[emotion][:, None]
                        + truth[topic][:, None]
                        + noise * source.standard_normal((len(SITES), n, D))
                    )
                    x[:, :START] += 50  # what comes before the first counted token must not matter
                    tokens.append(np.arange(n)), values.append(x)
    for number in range(10):
        n = int(source.integers(8, 20))
        rows.append(
            dict(
                id=f"neutral/{number}",
                emotion="",
                topic="",
                kind="neutral",
                behaviour="",
                side="",
                split="train",
                named=False,
            )
        )
        scale = np.array([9.0, 6.0] + [1.0] * (D - 2))
        tokens.append(np.arange(n)), values.append(source.standard_normal((len(SITES), n, D)) * scale)
    rows.append(
        dict(
            id="named",
            emotion="calm",
            topic="rain",
            kind="story",
            behaviour="",
            side="",
            split="train",
            named=True,
        )
    )
    tokens.append(np.arange(12)), values.append(1e3 * np.ones((len(SITES), 12, D)))
    for x in values:
        x[:, 0] = 1e4
    with ActivationStoreWriter(
        path, SITES, D, pd.DataFrame(rows), tokens, {"model_hash": "m", "model_name": "n"}, "float32"
    ) as writer:
        for number, x in enumerate(values):
            writer.append([number], {site: x[place].astype(np.float32) for place, site in enumerate(SITES)})
        writer.finish()
    return ActivationStore.open(path), values
