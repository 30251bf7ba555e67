"""A tiny random model and random directions of it."""

import numpy as np

from emocircuits.artifacts.directions import ControlDirections, EmotionDirections
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model


def tiny_model(directory, family="llama", shape=TinyShape(), **options):
    return load_model(str(write_tiny_model(family, directory, shape, **options)), checks=False)


def tiny_directions(model, emotions=("calm", "sad", "desperate"), *, n_random=4, seed=0, scale=4.0):
    source = np.random.default_rng(seed)

    def unit(n):
        raw = source.standard_normal((len(model.sites), n, model.d_model)).astype(np.float32)
        return raw / np.linalg.norm(raw, axis=-1, keepdims=True)

    shape = (len(model.sites), len(emotions))
    return EmotionDirections(
        vectors=unit(len(emotions)),
        norms=np.ones(shape, np.float32),
        mean=source.standard_normal((len(model.sites), model.d_model)).astype(np.float32),
        residual_norm=np.full(len(model.sites), scale, np.float32),
        held_out_auroc=np.ones(shape, np.float32),
        sites=model.sites,
        emotions=tuple(emotions),
        estimator="difference_of_means",
        settings={},
        model_hash=model.content_hash,
        controls={"random": ControlDirections(tuple(f"random {n}" for n in range(n_random)), unit(n_random))},
        read_site=model.sites[1],
        steer_site=model.sites[0],
    )
