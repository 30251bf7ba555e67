"""What a real model's own emotion directions are worth: `python -m tests.benchmarks.tinystories [--run DIR]
[--model DIR]`.

On a run of `analyses/recipes/tinystories.toml` (its collect and directions stages suffice) with the model in
../shared/models:

1. held-out AUROC of every emotion against directions learned from the same stories with shuffled labels (199
   shuffles, within nothing: labels move between stories), at the reading site; p = (1 + shuffles at least as
   good) / 200;
2. the direction of sad against happy, read at the last token of openings it was not learned from, against the
   model's own logit(sad) - logit(happy) there (Pearson r, with a bootstrap interval over openings).
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from emocircuits.activations.story_material import PRONOUNS, fill, story_material
from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.directions.validation import one_vs_others_auroc
from emocircuits.models import load_model
from emocircuits.passes.resume import stream_at

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
SHUFFLES = 199
ASKS = " {He} felt very"


def story_means(store: ActivationStore, site: str, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over a story's tokens from `start` on, its emotion, whether it is held out."""
    table = store.prompts
    kept = np.flatnonzero((table["kind"] == "story").to_numpy())
    means = []
    for number in kept:
        rows = store.select(np.arange(len(table)) == number, start=start)
        rows = rows if len(rows) else store.select(np.arange(len(table)) == number, start=1)
        means.append(store.read(site, rows).astype(np.float64).mean(0))
    return np.stack(means), table["emotion"].to_numpy()[kept], (table["split"] == "held_out").to_numpy()[kept]


def difference_of_means(x: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Class means minus the mean over classes, unit rows."""
    means = np.stack([x[labels == number].mean(0) for number in range(n)])
    vectors = means - means.mean(0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def against_shuffled(x: np.ndarray, names: np.ndarray, held_out: np.ndarray, seed: int = 0) -> list[dict]:
    """One row per emotion: held-out AUROC, the shuffles' mean and best, p."""
    emotions, labels = np.unique(names, return_inverse=True)
    train, test = x[~held_out], x[held_out]
    own = one_vs_others_auroc(
        test @ difference_of_means(train, labels[~held_out], len(emotions)).T, labels[held_out]
    )
    source, null = np.random.default_rng(seed), []
    for _ in range(SHUFFLES):
        shuffled = source.permutation(labels[~held_out])
        null.append(
            one_vs_others_auroc(
                test @ difference_of_means(train, shuffled, len(emotions)).T, labels[held_out]
            )
        )
    null = np.array(null)
    p_values = (1 + (null >= own).sum(0)) / (1 + SHUFFLES)
    return [
        {
            "emotion": str(name),
            "auroc": float(auroc),
            "shuffled_mean": float(other.mean()),
            "shuffled_best": float(other.max()),
            "p": float(p),
        }
        for name, auroc, other, p in zip(emotions, own, null.T, p_values, strict=True)
    ]


def held_out_openings(seed: int = 0, each: int = 4) -> list[str]:
    """Openings of all emotions from the situations that no direction was learned from, ending in `He felt
    very`.
    """
    material, source, found = story_material(), np.random.default_rng(seed), []
    topics = list(material.topics)
    for emotion in material.emotions:
        situations = material.situations[emotion]
        for situation in situations[len(situations) - max(1, round(0.25 * len(situations))) :]:
            for _ in range(each):
                (name, pronoun), (friend, _) = (
                    material.people[i] for i in source.permutation(len(material.people))[:2]
                )
                opening = source.choice(material.topics[topics[int(source.integers(len(topics)))]])
                he = PRONOUNS[pronoun][0].capitalize()
                found.append(
                    fill(f"{opening} {situation}", name, pronoun, friend=friend) + ASKS.format(He=he)
                )
    return found


@torch.no_grad()
def sad_against_happy(
    model, directions: EmotionDirections, openings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Reading of sad - happy at the last token, and logit(sad) - logit(happy) there."""
    site = directions.read_site
    vector = directions.vector("sad", site).astype(np.float64) - directions.vector("happy", site).astype(
        np.float64
    )
    sad, happy = model.single_token("sad"), model.single_token("happy")
    readings, logits = [], []
    for text in openings:
        ids = torch.tensor([model.encode(text)])
        readings.append(
            float(stream_at(model.bridge, ids, site)[0, -1].double().numpy() @ vector)
            / directions.scale(site)
        )
        last = model.bridge(ids, use_cache=False)[0, -1]
        logits.append(float(last[sad] - last[happy]))
    return np.array(readings), np.array(logits)


def main() -> None:
    """Prints both tables and whether the bars hold."""
    parser = argparse.ArgumentParser(
        description="directions of a real model against shuffled labels and its own logits"
    )
    parser.add_argument("--run", type=Path, default=Path("runs/tinystories-tinystories-sp2M"), metavar="DIR")
    parser.add_argument("--model", type=Path, default=SHARED / "tinystories-sp2M", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    arguments = parser.parse_args()
    store, directions = (
        ActivationStore.open(arguments.run / "activations.h5"),
        EmotionDirections.load(arguments.run / "directions.h5"),
    )
    start = json.loads((arguments.run / "manifest.json").read_text())["recipe"]["directions"]["from_token"]
    x, names, held_out = story_means(store, directions.read_site, start)
    rows = against_shuffled(x, names, held_out)
    print(
        f"{arguments.model.name}: {len(x)} stories, {int(held_out.sum())} held out, at {directions.read_site}"
    )
    for row in rows:
        print(
            f"  {row['emotion']:<12} AUROC {row['auroc']:.3f}   shuffled {row['shuffled_mean']:.3f}, best "
            f"{row['shuffled_best']:.3f}   p {row['p']:.3f}"
        )
    good = sum(row["p"] <= 0.01 for row in rows)
    print(
        f"{'ok ' if good * 2 >= len(rows) else 'NO '} {good} of {len(rows)} emotions at "
        "p <= 0.01 (at least half)"
    )
    found = {"auroc": rows, "beating": good}
    model = load_model(str(arguments.model), trust_remote_code=True, checks=False)
    try:
        readings, logits = sad_against_happy(model, directions, held_out_openings())
    except Exception as error:  # a model without the words has no such logits
        print(f"    no reading of sad against happy: {error}")
    else:
        source = np.random.default_rng(0)
        draws = [
            np.corrcoef(*np.stack([readings, logits])[:, source.integers(0, len(logits), len(logits))])[0, 1]
            for _ in range(2000)
        ]
        r = float(np.corrcoef(readings, logits)[0, 1])
        low, high = np.quantile(draws, [0.025, 0.975])
        print(
            f"{'ok ' if r >= 0.7 else 'NO '} sad - happy reading against logit(sad) - logit(happy) on "
            f"{len(logits)} held-out openings: r {r:.3f} [{low:.3f}, {high:.3f}] (at least 0.7)"
        )
        found |= {"r": r, "r_low": float(low), "r_high": float(high), "openings": len(logits)}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
