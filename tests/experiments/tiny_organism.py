"""A random model that can read the organism's world, and its directions."""

from emocircuits.experiments.organism_bars import BarSizes, organism_directions
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model
from emocircuits.organism.corpus import generate
from emocircuits.organism.world import scenario

SIZES = BarSizes(
    stories=3,
    held_out_stories=2,
    neutral=6,
    scenes=16,
    prompts=2,
    strengths=(-0.5, 0.0, 0.5),
    emotions=("desperate", "calm", "happy", "sad"),
)


def tiny_organism(directory):
    """A random model that can read the organism's world."""
    texts = [
        document.text for kind in ("story", "inbox", "coding", "neutral") for document in generate(kind, 20)
    ]
    words = (*scenario("inbox").options, *scenario("coding").options)
    words = dict.fromkeys(words)
    directory = write_tiny_model(
        "llama",
        directory,
        TinyShape(n_ctx=1024),
        texts=texts,
        words=words,
        vocabulary=1200,
    )
    model = load_model(str(directory), checks=False)
    return model, organism_directions(model, SIZES)
