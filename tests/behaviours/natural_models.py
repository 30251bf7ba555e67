"""Models of two families whose tokenizers cut the scenarios into pieces of quite different size."""

from emocircuits.behaviours.natural import NATURAL, read_scenario
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model

NAMES = ("blackmail", "reward_hacking", "sycophancy")
VOCABULARIES = [("llama", 500), ("qwen2", 1500)]


def natural_model(family, vocabulary, directory):
    """A random model that has the scenarios' words as tokens."""
    scenarios = [read_scenario(NATURAL / f"{name}.toml") for name in NAMES]
    write_tiny_model(
        family,
        directory,
        TinyShape(n_layers=1, n_ctx=4096),
        texts=[(NATURAL / f"{name}.toml").read_text() for name in NAMES],
        words=[word for scenario in scenarios for word in (*scenario.targets, *scenario.honest)],
        vocabulary=vocabulary,
    )
    return load_model(str(directory), checks=False)
