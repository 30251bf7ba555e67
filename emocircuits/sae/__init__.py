"""Sparse autoencoders: sae-lens' classes, trainer and files, fed from an activation store.

Adding an architecture is one file and one line in `emocircuits.sae.architectures`.
"""

from emocircuits.lazy import lazy

_NAMES = {
    "ARCHITECTURES": "architectures",
    "SAESettings": "settings",
    "seed_agreement": "geometry",
    "decoder_encoder_cosine": "geometry",
    "held_out_rows": "rows",
    "is_trained": "catalogue",
    "load_sae": "loading.handle",
    "pca_fvu": "floors",
    "reconstruction": "quality",
    "train_from_stream": "training.train_stream",
    "train_saes": "training.train",
    "training_rows": "rows",
}
__all__ = list(_NAMES)
__getattr__ = lazy(__name__, _NAMES)
