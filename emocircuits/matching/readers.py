"""What else reads an emotion: what SAE features must beat, on the same held-out stories.

Every reader sees the fit stories with their labels and scores the held-out ones; its quality is the AUROC of
one emotion against all others (Kantamneni et al. 2025 and AxBench ask for these baselines).
"""

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.matching.auroc import one_vs_others
from emocircuits.matching.contrast import StoryContrast
from emocircuits.matching.standardised_delta import standardised
from emocircuits.matching.targeted_ablation import probe_auroc

UNITS = 20


def units_auroc(
    fit: Float[np.ndarray, "story unit"],
    contrast: StoryContrast,
    held: Float[np.ndarray, "held unit"],
    held_labels: Int[np.ndarray, "held"],
    n: int = UNITS,
) -> tuple[Float[np.ndarray, "emotion"], Float[np.ndarray, "emotion"]]:
    """AUROC of the best unit, and of the best `n` together, chosen on the fit stories by |z|, with their
    signs.

    Together they are the sum of their standardised values, each times its z. A unit is a feature, a
    coordinate, a component.
    """
    z = contrast.apply(standardised(fit)) / contrast.standard_error()[:, None]
    best = np.abs(z).argmax(axis=1)
    signs = np.sign(z[np.arange(len(z)), best])
    single = np.array(
        [
            one_vs_others(sign * held[:, [unit]], held_labels, len(z))[emotion, 0]
            for emotion, (unit, sign) in enumerate(zip(best, signs, strict=True))
        ]
    )
    spread = fit.astype(np.float64).std(axis=0)
    weights = np.divide(z, spread, out=np.zeros_like(z), where=spread > 0)
    ranked = np.argsort(-np.abs(z), axis=1, kind="stable")
    np.put_along_axis(weights, ranked[:, n:], 0.0, axis=1)
    return single, probe_auroc((weights @ held.T).astype(np.float32), held_labels, np.arange(len(z)))


def directions_auroc(
    directions: Float[np.ndarray, "emotion d_model"],
    held: Float[np.ndarray, "held d_model"],
    held_labels: Int[np.ndarray, "held"],
) -> Float[np.ndarray, "emotion"]:
    """AUROC of the projections on the directions themselves."""
    return probe_auroc((directions @ held.T).astype(np.float32), held_labels, np.arange(len(directions)))


def logistic_auroc(
    fit: Float[np.ndarray, "story d_model"],
    contrast: StoryContrast,
    held: Float[np.ndarray, "held d_model"],
    held_labels: Int[np.ndarray, "held"],
    *,
    penalty: float = 1e-3,
    steps: int = 200,
) -> Float[np.ndarray, "emotion"]:
    """AUROC of a multinomial logistic probe on standardised coordinates, L2-penalised, fitted by L-BFGS.

    An emotion's score is its logit minus that of all others together.
    """
    mean, spread = fit.mean(axis=0), np.maximum(fit.std(axis=0), 1e-9)
    x, y = torch.from_numpy((fit - mean) / spread).double(), torch.from_numpy(contrast.labels).long()
    weights = torch.zeros(x.shape[1] + 1, contrast.n_emotions, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (
            torch.nn.functional.cross_entropy(x @ weights[:-1] + weights[-1], y)
            + penalty * (weights[:-1] ** 2).sum()
        )
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    logits = torch.from_numpy((held - mean) / spread).double() @ weights.detach()[:-1] + weights.detach()[-1]
    chance = logits.log_softmax(dim=1)
    scores = (chance - torch.log1p(-chance.exp().clamp(max=1 - 1e-12))).numpy()
    return probe_auroc(scores.T.astype(np.float64), held_labels, np.arange(contrast.n_emotions))
