"""Questions about matches on the activations of a finished run: do they recur, what must they beat, do they
act?
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.experiments.feature_controls import significant_features
from emocircuits.io.documents import write_csv
from emocircuits.matching import match_features
from emocircuits.matching.frequency_matched import frequency_matched
from emocircuits.matching.match import labelled_stories
from emocircuits.matching.readers import directions_auroc, logistic_auroc, units_auroc
from emocircuits.matching.recurrence import SAME, recurrence
from emocircuits.matching.story_features import StoryFeatures, story_features
from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.names import short_site
from emocircuits.numerics import generator
from emocircuits.progress import say, track
from emocircuits.runs.opening import open_run
from emocircuits.runs.run import Run
from emocircuits.sae import train_saes
from emocircuits.sae.dictionary import open_dictionaries
from emocircuits.studies.steering import causal_table
from emocircuits.studies.texts import collected_texts

FOLDER, RANDOM_SETS = "recur", 10


def open_study(directory: Path, loading: Loading = AS_IT_IS) -> "MatchStudy":
    """A finished run whose matches are studied.

    Raises:
        UserError: no run, or one whose match stage is not done.
    """
    run = open_run(directory, loading)
    if not run.path("matches.h5").is_file():
        raise UserError(f"{directory} has no matches.h5", cure=f"emocircuits stage match {directory}")
    return MatchStudy(run)


@dataclass
class MatchStudy:
    """A run and what is asked about its matches."""

    run: Run

    @cached_property
    def store(self) -> ActivationStore:
        """Its activations."""
        return self.run.store

    @cached_property
    def matches(self) -> FeatureMatches:
        """Its matches."""
        return self.run.matches

    def emotion_table(self, emotion: str) -> pd.DataFrame:
        """Every listed feature of one emotion, best first within each site, with the two other emotions it is
        most active for.

        Raises:
            UserError: an emotion without matches in this run.
        """
        matches = self.matches
        if emotion not in matches.emotions:
            raise unknown("emotion", emotion, matches.emotions)
        table = (
            matches.table[matches.table["emotion"] == emotion].drop(columns="emotion").reset_index(drop=True)
        )
        delta, others = matches.scores["delta"], []
        for row in table.itertuples():
            column = delta[matches.sites.index(row.site), :, row.feature]
            best = [
                matches.emotions[place] for place in np.argsort(-column) if matches.emotions[place] != emotion
            ][:2]
            others.append(" ".join(best))
        return table.assign(also=others)

    def causal_check(self, emotions: Sequence[str]) -> pd.DataFrame:
        """Every kept match of these emotions, pushed and taken out on held-out prompts
        (`experiments.causal_check`).
        """
        for emotion in emotions:
            if emotion not in self.matches.emotions:
                raise unknown("emotion", emotion, self.matches.emotions)
        return causal_table(self.run, list(emotions))

    def recur(self, seeds: int, sites: Sequence[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Trains SAEs with other seeds, matches them in the same way, and looks for the run's matches in
        them.

        Everything is kept in `<run>/recur` (`seed-1` …, `frozen`, `recurrence.csv`), so a second call goes
        on.

        Args:
            seeds: how many other seeds.
            sites: which sites; the reading site by default.

        Returns:
            One row per match (`emotion, site, feature, best_cosine` over matches of the emotion in the other
            dictionaries, `anywhere`, `seeds`: in how many it recurs at cosine 0.7), and one row per
            dictionary and site: kept matches, emotions with a match, recurring share, cosines, and overlap of
            the carriers' spans next to chance; `frozen` is an SAE whose decoder stayed random.

        Raises:
            UserError: fewer than one seed, or an unknown site.
        """
        if seeds < 1:
            raise UserError(f"{seeds} other seeds", expected="at least 1; 3 are usual")
        chosen = tuple(sites or [self.run.directions.read_site])
        for site in chosen:
            if site not in self.matches.sites:
                raise unknown("site", site, self.matches.sites)
        recipe = self.run.recipe
        others = {f"seed-{number}": (recipe.sae, recipe.seed + number) for number in range(1, seeds + 1)}
        others["frozen"] = (replace(recipe.sae, frozen_decoder=True), recipe.seed)
        found, summary = [], [self._summary("run", site, self.matches) for site in chosen]
        for name, (settings, seed) in others.items():
            say(f"{name}: {len(chosen)} SAE{'s' if len(chosen) > 1 else ''}")
            folder = self.run.path(FOLDER) / name
            saes = train_saes(self.store, folder, settings, layers=chosen, seed=seed, device=recipe.device)
            matches = match_features(
                self.store,
                saes,
                self.run.directions,
                recipe.match,
                seed=recipe.seed,
                sites=chosen,
                workers=recipe.threads,
            )
            matches.save(folder / "matches.h5")
            for site in chosen:
                rows, numbers = self._compare(site, saes[site], matches, name)
                summary.append({**self._summary(name, site, matches), **numbers})
                found.append(rows)
        table = pd.concat(found, ignore_index=True)
        table.insert(3, "dictionary", table.pop("dictionary"))
        trained = table[table["dictionary"] != "frozen"]
        by_match = (
            trained.groupby(["emotion", "site", "feature"], sort=False)
            .agg(
                best_cosine=("cosine", "max"),
                mean_cosine=("cosine", "mean"),
                anywhere=("anywhere", "mean"),
                seeds=("cosine", lambda values: int((values >= SAME).sum())),
                of=("cosine", "size"),
            )
            .reset_index()
        )
        write_csv(self.run.path(FOLDER) / "recurrence.csv", by_match)
        write_csv(self.run.path(FOLDER) / "dictionaries.csv", pd.DataFrame(summary))
        return by_match, pd.DataFrame(summary)

    def _summary(self, name: str, site: str, matches: FeatureMatches) -> dict[str, Any]:
        kept = [len(significant_features(matches, emotion, site)) for emotion in matches.emotions]
        return {
            "dictionary": name,
            "site": site,
            "kept": int(np.sum(kept)),
            "emotions": int(np.count_nonzero(kept)),
            "residual_share": float(matches.residual_share[matches.sites.index(site)].mean()),
        }

    def _compare(
        self, site: str, sae: Any, matches: FeatureMatches, name: str
    ) -> tuple[pd.DataFrame, dict[str, float]]:
        own = open_dictionaries({site: self.run.sae(site)})[site].decoder.cpu().numpy()
        other = open_dictionaries({site: sae})[site].decoder.cpu().numpy()
        place, share = matches.sites.index(site), self.run.recipe.match.carrier_share
        density = matches.null["density"][place].astype(np.float64)
        pool, rows, spans = np.flatnonzero(matches.null["eligible"][place]), [], []
        source = generator(self.run.recipe.seed, "random spans", site, name)
        for emotion in self.matches.emotions:
            kept = self.matches.kept(emotion, site)["feature"].to_numpy(dtype=np.int64)
            carriers = matches.carriers(emotion, site, share)
            random = [
                frequency_matched(carriers, density, pool, source)
                for _ in range(RANDOM_SETS if len(kept) else 0)
            ]
            one = recurrence(
                own,
                kept,
                self.matches.carriers(emotion, site, share),
                other,
                significant_features(matches, emotion, site),
                carriers,
                random,
            )
            rows += [
                (emotion, site, int(feature), name, *values)
                for feature, *values in zip(kept, one.cosines, one.anywhere, strict=True)
            ]
            if len(kept):
                spans.append((one.subspace, one.chance))
        table = pd.DataFrame(rows, columns=["emotion", "site", "feature", "dictionary", "cosine", "anywhere"])
        overlap, chance = np.mean(spans, axis=0) if spans else (0.0, 0.0)
        return table, {
            "recurring": float((table["cosine"] >= SAME).mean()) if len(table) else 0.0,
            "mean_cosine": float(table["cosine"].mean()) if len(table) else 0.0,
            "mean_anywhere": float(table["anywhere"].mean()) if len(table) else 0.0,
            "span_overlap": float(overlap),
            "span_chance": float(chance),
        }

    def compare(self, site: str | None = None, *, floors: bool = False) -> list[dict[str, Any]]:
        """Held-out AUROC of what reads emotions at one site, mean over emotions: SAE features and what they
        must beat.

        Args:
            site: which; the reading site by default.
            floors: also an SAE with a frozen random decoder, and one of the model with shuffled weights on
                its own activations.

        Returns:
            Rows `reader, one, together, emotion_one, emotion_together`: the best unit and the best 20
                together (only the latter for a direction or probe); the last two for the recipe's emotion.

        Raises:
            UserError: an unknown site.
        """
        directions = self.run.directions
        site = site or directions.read_site
        vectors = directions.vectors[directions.site_index(site)]
        seen, labels = self._stories(self.store, self.run.sae(site), site)
        fit, held = seen.stream[labels.fit], seen.stream[labels.held]
        target = labels.held_emotions
        rows = [
            self._row("direction", None, directions_auroc(vectors, held, target)),
            self._row("logistic probe", None, logistic_auroc(fit, labels.contrast, held, target)),
        ]
        centre = fit.mean(axis=0)
        axes = np.linalg.svd(fit - centre, full_matrices=False)[2].T
        units = {
            "SAE features": (seen.features[labels.fit], seen.features[labels.held]),
            "neurons (coordinates of the stream)": (fit, held),
            "principal components": ((fit - centre) @ axes, (held - centre) @ axes),
        }
        if floors:
            units |= self._floors(site)
        for name, (first, second) in units.items():
            rows.append(self._row(name, *units_auroc(first, labels.contrast, second, target)))
        return rows

    def _row(self, name: str, one: np.ndarray | None, together: np.ndarray) -> dict[str, Any]:
        place = self.matches.emotions.index(self.run.recipe.emotion)
        single = {} if one is None else {"one": float(one.mean()), "emotion_one": float(one[place])}
        return {
            "reader": name,
            **single,
            "together": float(together.mean()),
            "emotion_together": float(together[place]),
        }

    def _stories(self, store: ActivationStore, sae: Any, site: str) -> tuple[StoryFeatures, Any]:
        directions = self.run.directions
        stories, labels = labelled_stories(store, directions)
        first = int(directions.setting("from_token"))
        return story_features(store, sae, site, stories, from_token=first), labels

    def _floors(self, site: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Features of an SAE with a frozen random decoder, and of an SAE of the model with shuffled
        weights.
        """
        recipe, found = self.run.recipe, {}
        base = recipe.sae
        stores = {
            "SAE with a frozen random decoder": (self.store, replace(base, frozen_decoder=True), "frozen"),
            "SAE of the model with shuffled weights": (self._randomised(site), base, "randomised"),
        }
        for name, (store, settings, folder) in track(stores.items(), "floors", total=len(stores)):
            sae = train_saes(
                store,
                self.run.path(FOLDER) / folder,
                settings,
                layers=[site],
                seed=recipe.seed,
                device=recipe.device,
            )[site]
            seen, labels = self._stories(store, sae, site)
            found[name] = (seen.features[labels.fit], seen.features[labels.held])
        return found

    def _randomised(self, site: str) -> ActivationStore:
        """The run's texts read by the model with shuffled weights, where `sae sweep --floors` keeps
        them too.
        """
        from emocircuits.activations import collect
        from emocircuits.models.randomised import shuffle_weights

        path = self.run.path(f"sweep/randomised/{short_site(site)}.h5")
        model = shuffle_weights(self.run.load_model(), self.run.recipe.seed)
        return collect(model, collected_texts(self.run), path, layers=[site], replace=True)
