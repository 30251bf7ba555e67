"""Sparse autoencoders: sae-lens' classes, trainer and files, fed from an activation store.

Adding an architecture is one file and one line here.
"""

from emocircuits.sae.architectures import ARCHITECTURES
from emocircuits.sae.catalogue import is_trained
from emocircuits.sae.floors import pca_fvu
from emocircuits.sae.geometry import agreement, decoder_encoder_cosine
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.quality import loss_recovered, quality_row, reconstruction
from emocircuits.sae.rows import held_out_rows, training_rows
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.train import train_saes
from emocircuits.sae.training.train_stream import train_from_stream

__all__ = [
    "ARCHITECTURES",
    "SAESettings",
    "agreement",
    "decoder_encoder_cosine",
    "held_out_rows",
    "is_trained",
    "load_sae",
    "loss_recovered",
    "pca_fvu",
    "quality_row",
    "reconstruction",
    "train_from_stream",
    "train_saes",
    "training_rows",
]
