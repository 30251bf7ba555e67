"""sae: one sparse autoencoder per site, trained by sae-lens, and what each is worth."""

from pathlib import Path

import pandas as pd

from emocircuits.errors import UserError
from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.io.atomic import write_bytes
from emocircuits.io.documents import write_csv
from emocircuits.ranks import ranks
from emocircuits.runs.run import Run
from emocircuits.runs.stage import Output, stage
from emocircuits.sae import load_sae, train_saes
from emocircuits.sae.loading.pretrained import adopt, find_pretrained, parse_pretrained
from emocircuits.sae.loading.registered import registered_for, shipped_registry
from emocircuits.sae.settings import SAESettings
from emocircuits.studies.sae_registry import checked_rows, open_verified, registered_directories

SUGGESTED_FVU, SUGGESTED_DEAD = 0.25, 0.1


@stage(
    "an SAE on the residual stream after every layer",
    needs=("plan", "collect"),
    settings=("sae", "sae_source"),
    shared=True,
)
def sae(run: Run) -> Output:
    """Writes `saes/<site>/` (or copies given SAEs there) and `saes.csv`; sites that are done stay done.

    The ranks of a job share the training; the first alone measures.
    """
    recipe, store, model = run.recipe, run.store, run.model
    how, out = recipe.sae_source, run.path("saes")
    given = parse_pretrained(how.pretrained, store.sites)
    if ranks().first:
        _adopt_pretrained(run, given)
    left = [site for site in store.sites if site not in given]
    registry, name = _registered(run)
    if how.directory or name:
        if ranks().first:
            _adopt(run, registry, name, left)
    elif left:
        train_saes(
            store,
            left,
            recipe.sae,
            out,
            seed=recipe.seed,
            device=recipe.device,
        )
    if not ranks().first:
        return Output(())
    rows = quality_rows(model.bridge, {site: run.sae(site) for site in store.sites}, store)
    write_csv(run.path("saes.csv"), pd.DataFrame(rows))
    warnings = [
        f"the SAE at {row['site']} leaves {row['fvu']:.0%} of the variance unexplained"
        for row in rows
        if row["fvu"] > SUGGESTED_FVU
    ]
    warnings += [
        f"{row['dead_fraction']:.0%} of the features at {row['site']} never fire"
        for row in rows
        if row["dead_fraction"] > SUGGESTED_DEAD
    ]
    files = [
        f"saes/{site}/{name}" for site in store.sites for name in ("cfg.json", "sae_weights.safetensors")
    ]
    return Output((*files, "saes.csv"), tuple(warnings))


def _registered(run: Run) -> tuple[Path, str]:
    """The registry and the name in it of the SAEs to use; "" where SAEs are trained or come from a
    directory.
    """
    recipe, how = run.recipe, run.recipe.sae_source
    registry = Path(how.registry) if how.registry else shipped_registry()
    if how.registered != "auto":
        return registry, how.registered
    usual = recipe.sae.shaping == SAESettings().shaping
    return registry, registered_for(
        registry, run.model.content_hash, run.store.sites
    ) if usual and not how.directory else ""


def _adopt_pretrained(run: Run, given: dict[str, str]) -> None:
    """Converts pretrained SAEs into the run, once each was measured on the run's activations."""
    store, model = run.store, run.model
    for site, name in given.items():
        adopt(
            find_pretrained(name),
            run.path("saes") / site,
            site=site,
            d_in=model.d_model,
            model_name=model.name,
            model_hash=model.content_hash,
            prepend_bos=model.bos_id is not None,
            activations=checked_rows(store, site),
        )


def _adopt(run: Run, registry: Path, name: str, sites: list[str]) -> None:
    """Copies given SAEs `<site>/cfg.json, sae_weights.safetensors` into the run, once each was opened and
    fits.
    """
    how, store = run.recipe.sae_source, run.store
    if how.directory and name:
        raise UserError(
            "the recipe has both sae_source.directory and sae_source.registered", expected="one of them"
        )
    if name:
        sources = registered_directories(registry, name, sites)
    else:
        sources = {site: Path(how.directory) / site for site in sites}
    for site, source in sources.items():
        if not source.is_dir():
            raise UserError(
                f"there is no SAE for {site} in {source}", expected=f"{source}/cfg.json and weights"
            )
        if name:
            open_verified(run, store, registry, name, site)
        else:
            load_sae(source, site=site, d_in=run.model.d_model)
        for file in ("cfg.json", "sae_weights.safetensors"):
            write_bytes(run.path("saes") / site / file, (source / file).read_bytes())
