"""sae: one sparse autoencoder per site, trained by sae-lens, and what each is worth."""

import pandas as pd

from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.io.documents import write_csv
from emocircuits.models.files import sizes_in
from emocircuits.ranks import alone, ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.sae.architectures import ARCHITECTURES
from emocircuits.sae.training.train import train_saes
from emocircuits.settings import known
from emocircuits.studies.sae_sources import PAIR, check_sources, sites_to_train, take_given

SUGGESTED_FVU, SUGGESTED_DEAD = 0.25, 0.1


def check(run: Run) -> None:
    """The architecture exists, k fits, and SAEs that are given are there."""
    known("sae.architecture", run.recipe.sae.architecture, ARCHITECTURES.names())
    sizes = sizes_in(run.model_config)
    if sizes is not None:
        run.recipe.sae.d_sae(sizes[1])
        check_sources(run.recipe.sae_source, run.planned_sites)


@stage(
    "an SAE on the residual stream after every layer",
    needs=("plan", "collect"),
    settings=("sae", "sae_source"),
    check=check,
    shared=True,
)
def sae(run: Run) -> Output:
    """Writes `saes/<site>/` (or copies given SAEs there) and `saes.csv`; sites that are done stay done.

    The ranks of a job share the training; the first alone measures.
    """
    recipe, sites = run.recipe, run.store.sites
    if ranks().first:
        take_given(run)
    left = sites_to_train(run)
    if left:
        train_saes(
            run.store, run.path("saes"), recipe.sae, layers=left, seed=recipe.seed, device=recipe.device
        )
    if not ranks().first:
        return Output(())
    with alone():
        rows = quality_rows(
            run.model.bridge,
            {site: run.sae(site) for site in sites},
            run.store,
            loss_tokens=recipe.sae.loss_tokens,
            keep=run.keep,
        )
    write_csv(run.path("saes.csv"), pd.DataFrame(rows))
    files = [f"saes/{site}/{name}" for site in sites for name in PAIR]
    return Output((*files, "saes.csv"), tuple(_warnings(rows)))


def _warnings(rows: list[dict]) -> list[str]:
    unexplained = [
        f"the SAE at {row['site']} leaves {row['fvu']:.0%} of the variance unexplained"
        for row in rows
        if row["fvu"] > SUGGESTED_FVU
    ]
    return unexplained + [
        f"{row['dead_fraction']:.0%} of the features at {row['site']} never fire"
        for row in rows
        if row["dead_fraction"] > SUGGESTED_DEAD
    ]
