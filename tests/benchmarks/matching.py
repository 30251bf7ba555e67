"""Matches of SAE features with emotions against what is known about the organism's world.

`python -m tests.benchmarks.matching [RUN] [--quick] [--only PARTS]` prints one row per bar, for both kinds of
SAE that ship with the package. RUN is a run of the default recipe whose directions stage is done; it is made
where there is none. PARTS: ranking, null, mediation, cost.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.experiments.feature_controls import held_sets
from emocircuits.experiments.mediation import MediationSettings, mediation
from emocircuits.matching import MatchSettings, match_features
from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.match import labelled_stories
from emocircuits.matching.match_stories import Labels, join_sites, match_site
from emocircuits.matching.permutation import permutations
from emocircuits.matching.story_features import StoryFeatures, story_features
from emocircuits.matching.table import match_table
from emocircuits.numerics import generator, wilson_interval
from emocircuits.progress import quiet
from emocircuits.runs.run import Run
from emocircuits.sae import load_sae
from emocircuits.sae.loading.registered import shipped_registry
from emocircuits.studies.sae_sources import registered_directories
from emocircuits.studies.steering import steering_tasks
from tests.benchmarks.bars import FreshStories, Row, at_least, at_most, beside, command, fresh_stories

PARTS = ("ranking", "null", "mediation", "cost")
DICTIONARIES = ("organism-topk", "organism-matching_pursuit")
DELTA_BASED = ("delta", "standardised_delta", "attribution")
TRACKS, LOOSE, STRICT = 0.2, 0.1, 0.3


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        fresh: fresh stories per emotion.
        repeats, null_emotions, null_stories, null_permutations: of the permuted labels; so few emotions that
            Benjamini–Hochberg could keep something with so many permutations.
        prompts, random_sets: of mediation.
        cost: stories, emotions, features, permutations.
    """

    fresh: int = 24
    repeats: int = 200
    null_emotions: int = 20
    null_stories: int = 40
    null_permutations: int = 499
    prompts: int = 48
    random_sets: int = 10
    cost: tuple[int, int, int, int] = (2000, 171, 2048, 1000)


SMALL = Sizes(8, 5, 8, 12, 199, 6, 2, (160, 8, 128, 50))


def measure(run: Run, small: bool, parts: tuple[str, ...] = PARTS) -> Iterator[Row]:
    """All rows, part by part."""
    sizes = SMALL if small else Sizes()
    for name in parts:
        with quiet():
            yield from {
                "ranking": ranking_rows,
                "null": null_rows,
                "mediation": mediation_rows,
                "cost": cost_rows,
            }[name](run, sizes)


def shipped_saes(name: str, sites: tuple[str, ...]) -> dict:
    """The SAEs of a name that ships with the package."""
    return {
        site: load_sae(path, site=site)
        for site, path in registered_directories(shipped_registry(), name, sites).items()
    }


def ranking_rows(run: Run, sizes: Sizes) -> Iterator[Row]:
    """Average precision of every score against the features that truly track an emotion's latent.

    Truth: on fresh stories the feature's story mean is regressed on the latent (`bars.FreshStories.latent`);
    it tracks the latent where the standardised slope is at least 0.2. The mean is over emotions.
    """
    directions, store = run.directions, run.store
    site, start = directions.read_site, int(directions.settings["from_token"])
    stories, labels = labelled_stories(store, directions)
    fresh = fresh_stories(run, sizes.fresh)
    for name in DICTIONARIES:
        sae = shipped_saes(name, (site,))[site]
        seen = story_features(store, sae, site, stories, from_token=start)
        found = match_site(
            site,
            seen,
            labels,
            directions.vectors[directions.site_index(site)],
            permutations(len(labels.fit), 1, 0),
            run.recipe.match,
        )
        slopes = _slopes(fresh, sae, site, start)[:, found.eligible]
        scores = {score: values[:, found.eligible] for score, values in found.scores.items()}
        precision = {
            level: {score: _precision(values, slopes >= level) for score, values in scores.items()}
            for level in (TRACKS, LOOSE, STRICT)
        }
        best = max(DELTA_BASED, key=lambda score: precision[TRACKS][score])
        tracked = (slopes >= TRACKS).sum(axis=1)
        ratios = ", ".join(
            f"{precision[level][best] / precision[level]['cosine']:.1f} at slopes ≥ {level:g}"
            for level in (LOOSE, STRICT)
        )
        yield at_least(
            f"{name}: average precision of {best} over that of decoder cosine",
            precision[TRACKS][best] / precision[TRACKS]["cosine"],
            1.3,
            f"{tracked.mean():.0f} of {slopes.shape[1]} features track an emotion; ratio {ratios}",
        )
        for score in sorted(scores, key=lambda score: -precision[TRACKS][score]):
            yield beside(f"{name}: average precision of {score}", precision[TRACKS][score])
        yield beside(f"{name}: average precision of a random order", float((slopes >= TRACKS).mean()))


def _slopes(fresh: FreshStories, sae, site: str, start: int) -> Float[np.ndarray, "emotion feature"]:
    """Standardised slope of each feature's story mean on each emotion's latent; 0 for a feature that never
    fires.
    """
    features = story_features(
        fresh.store, sae, site, np.arange(fresh.store.n_prompts), from_token=start
    ).features.astype(np.float64)
    centred, latent = features - features.mean(axis=0), fresh.latent - fresh.latent.mean(axis=0)
    spread = np.linalg.norm(latent, axis=0)[:, None] * np.linalg.norm(centred, axis=0)
    return np.divide(latent.T @ centred, spread, out=np.zeros_like(spread), where=spread > 0)


def _precision(
    scores: Float[np.ndarray, "emotion feature"], truth: Bool[np.ndarray, "emotion feature"]
) -> float:
    """Mean average precision over the emotions that some feature tracks: precision at each true feature, down
    the list.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    counts = hits.sum(axis=1)
    return float(((precision * hits).sum(axis=1)[counts > 0] / counts[counts > 0]).mean())


def null_rows(run: Run, sizes: Sizes) -> Iterator[Row]:
    """The whole procedure, directions included, on stories whose labels were permuted."""
    directions, store = run.directions, run.store
    site, seed = directions.read_site, run.recipe.seed
    stories, labels = labelled_stories(store, directions)
    sae = shipped_saes(DICTIONARIES[0], (site,))[site]
    seen = story_features(store, sae, site, stories, from_token=int(directions.settings["from_token"]))
    source = generator(seed, "null emotions")
    emotions = np.sort(
        source.choice(
            len(directions.emotions), size=min(sizes.null_emotions, len(directions.emotions)), replace=False
        )
    )
    fit, held = (
        _some(rows, codes, emotions, sizes.null_stories)
        for rows, codes in ((labels.fit, labels.contrast.labels), (labels.held, labels.held_emotions))
    )
    how = replace(run.recipe.match, permutations=sizes.null_permutations)
    kept, small = [], []
    for repeat in range(sizes.repeats):
        matches = _permuted_match(
            site,
            seen,
            fit,
            held,
            len(emotions),
            how,
            permutations(len(fit[0]), how.permutations, seed + repeat),
            generator(seed, "permuted labels", repeat),
        )
        kept.append(bool(matches["kept"].any()))
        small.append(matches.attrs["smallest_p"] <= how.q_value)
    small = np.array(small)
    what, of = (
        "labels permuted, whole procedure repeated",
        f"{len(emotions)} emotions, {len(fit[0])} stories, {sizes.null_permutations} permutations, {site}",
    )
    low, high = wilson_interval(sum(kept), len(kept))
    yield at_most(
        f"{what} {sizes.repeats} ×: share that keeps any match at q ≤ {how.q_value:g}",
        float(np.mean(kept)),
        0.07,
        f"[{low:.3f}, {high:.3f}]; {of}",
    )
    spread = 1.96 * small.mean(axis=1).std(ddof=1) / np.sqrt(len(small))
    yield at_most(
        f"the same: share of emotions whose best feature has a family-wise p ≤ {how.q_value:g}",
        float(small.mean()),
        0.07,
        f"± {spread:.3f}; {small.size:,} tests",
    )


def _some(
    rows: Int[np.ndarray, "story"],
    codes: Int[np.ndarray, "story"],
    emotions: Int[np.ndarray, "emotion"],
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """At most so many stories of each of these emotions: rows, and labels 0 … n - 1."""
    chosen = [np.flatnonzero(codes == emotion)[:most] for emotion in emotions]
    return rows[np.concatenate(chosen)], np.repeat(np.arange(len(emotions)), [len(one) for one in chosen])


def _permuted_match(
    site: str,
    seen: StoryFeatures,
    fit: tuple[np.ndarray, np.ndarray],
    held: tuple[np.ndarray, np.ndarray],
    n: int,
    how: MatchSettings,
    orders: np.ndarray,
    source: np.random.Generator,
) -> pd.DataFrame:
    """The table of matches of one site with permuted labels; `attrs["smallest_p"]` is the smallest p of every
    emotion.
    """
    labels = Labels(
        fit[0], StoryContrast(source.permutation(fit[1]), n), held[0], source.permutation(held[1])
    )
    raw = labels.contrast.apply(seen.stream[labels.fit])
    directions = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    joined = join_sites([match_site(site, seen, labels, directions, orders, how)], how)
    table = match_table([str(number) for number in range(n)], (site,), joined, how)
    table.attrs["smallest_p"] = joined["null"]["p_value"][0].min(axis=1)
    return table


def mediation_rows(run: Run, sizes: Sizes) -> Iterator[Row]:
    """How much of the effect of pushing along the emotion is gone when its carriers are held at their
    unsteered values.
    """
    directions, recipe = run.directions, run.recipe
    site, emotion = directions.steer_site, recipe.emotion
    sites = directions.sites[directions.site_index(site) :]
    tasks = steering_tasks(run, sizes.prompts)
    for name in DICTIONARIES:
        saes = shipped_saes(name, sites)
        matches = _matches(run, name, sites)
        sets = held_sets(
            matches,
            emotion,
            sites,
            share=recipe.match.carrier_share,
            n_random=sizes.random_sets,
            seed=recipe.seed,
        )
        table = mediation(
            run.model,
            saes,
            tasks,
            directions.direction(emotion, site),
            sets,
            MediationSettings(strength=recipe.steer.mediation_strength, seed=recipe.seed),
        ).table
        for task in tasks:
            here = table[table["behaviour"] == task.behaviour].set_index("held")
            random = here[here["kind"] == "random"]["mediated"]
            line = here.loc["matched"]
            yield at_least(
                f"{name}: share of +{emotion}'s effect on {task.behaviour} that its {line['features']} "
                f"carriers per site ({line['share']:.1%} of the dictionary) carry",
                line["mediated"],
                0.6,
                f"[{line['ci_low']:.2f}, {line['ci_high']:.2f}]; all significant features "
                f"{here.loc['significant', 'mediated']:.2f}, as many by decoder cosine "
                f"{here.loc['cosine', 'mediated']:.2f}, the whole dictionary "
                f"{here.loc['all', 'mediated']:.2f}",
            )
            yield at_most(
                f"{name}: the same of frequency-matched random sets, mean of {len(random)}, {task.behaviour}",
                float(random.mean()),
                0.1,
                f"{random.min():.2f} to {random.max():.2f}",
            )


def _matches(run: Run, name: str, sites: tuple[str, ...]) -> FeatureMatches:
    """Matches of a shipped dictionary at some sites, kept in the run."""
    path = run.path(f"benchmark/matches-{name}.h5")
    if not path.is_file():
        match_features(
            run.store,
            shipped_saes(name, sites),
            run.directions,
            run.recipe.match,
            sites=sites,
            workers=run.recipe.threads,
        ).save(path)
    return FeatureMatches.load(path)


def cost_rows(run: Run, sizes: Sizes) -> Iterator[Row]:
    """Seconds and memory of a whole match in a process of its own, on random activations."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.matching_cost", *map(str, sizes.cost)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    stories, emotions, features, n = sizes.cost
    what = f"match of {emotions} emotions × {features:,} features × {stories:,} stories, {n:,} permutations"
    wall = f"{found['seconds']:.0f} s by the clock, other work on the machine included"
    yield at_most(f"{what}: seconds of processor time, both cores together", found["cpu_seconds"], 60, wall)
    yield at_most(
        f"{what}: memory, GiB",
        found["gib"],
        2.0,
        f"{found['gib_before']:.2f} GiB of it before the match begins",
    )


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, PARTS, "directions")
