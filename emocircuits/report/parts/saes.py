"""The sparse autoencoders: sizes and quality at every site."""

from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import frame, named

TITLE = "Sparse autoencoders"
HEADS = {
    "site": "site",
    "architecture": "architecture",
    "d_sae": "features",
    "l0": "L0",
    "fvu": "FVU",
    "ce_loss_recovered": "CE loss recovered",
    "dead_fraction": "dead",
    "tokens": "tokens",
}


def build(run: RunData, pictures: Pictures) -> str:
    """What they are for, and a row per site."""
    return (
        "<p>Sparse autoencoders split the residual stream into features. What they leave unexplained stays "
        "in "
        "the circuit as error nodes.</p>" + pictures["sae_quality"] + frame(run.saes, named(run.saes, HEADS))
    )
