"""How SAEs are trained. What depends on the length of the run is derived from it."""

from dataclasses import dataclass

from emocircuits.errors import UserError, unknown

KERNELS, ENCODER_DTYPES, SPREADS = ("auto", "sparse", "dense"), ("float32", "bfloat16"), ("sites", "batches")


@dataclass(frozen=True)
class SAESettings:
    """Settings of one training run, the same for every site.

    Attributes:
        architecture: a member of `emocircuits.sae.ARCHITECTURES`.
        expansion: d_sae / d_model.
        k: active features per token (for jumprelu the target; standard and gated do not use it).
        training_rows: rows drawn in all (with repetition when the store has fewer).
        batch_size: rows per step.
        lr: peak learning rate, for activations scaled to unit variance.
        sparsity: weight of the sparsity penalty (standard, gated and jumprelu; the TopK kinds have none).
        levels: nested dictionaries of a Matryoshka SAE, each half as wide as the next.
        kernel: `auto`, `sparse` or `dense`: how TopK and BatchTopK steps are computed
            (`emocircuits.sae.training.sparse_training`).
        encoder_dtype: `float32` or `bfloat16`: precision in which the sparse kernels look for the active
            features.
        frozen_decoder: leave the random decoder as it starts and train only the rest: a floor for trained
            ones to beat (Korznikov et al. 2026).
        aux_coefficient: weight of the loss that revives dead features (Gao et al. 2024, appendix A.2).
        skip_positions: leading positions of each prompt that are left out (position 0 is an attention sink).
        max_norm_multiple: rows longer than this multiple of the site's median norm are left out; 0 leaves
            none out.
        spread: what the ranks of a job share: `sites`, or `batches` (each rank a part of every batch).
        seed: seed of initial weights and order of rows.
    """

    architecture: str = "topk"
    expansion: int = 8
    k: int = 32
    training_rows: int = 600_000
    batch_size: int = 1024
    lr: float = 6e-3
    sparsity: float = 1.0
    levels: int = 5
    kernel: str = "auto"
    encoder_dtype: str = "float32"
    frozen_decoder: bool = False
    aux_coefficient: float = 1 / 4
    skip_positions: int = 1
    max_norm_multiple: float = 0.0
    spread: str = "sites"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("expansion", "k", "training_rows", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise UserError(f"sae.{name} is {getattr(self, name)}", expected="a positive number")
        if not self.sparsity >= 0:
            raise UserError(f"sae.sparsity is {self.sparsity}", expected="a number that is not negative")
        for name, known in (("kernel", KERNELS), ("encoder_dtype", ENCODER_DTYPES), ("spread", SPREADS)):
            if getattr(self, name) not in known:
                raise unknown(f"sae.{name}", str(getattr(self, name)), known)

    def d_sae(self, d_model: int) -> int:
        """Size of the dictionary.

        Raises:
            UserError: `k` features cannot be active in a dictionary that is smaller.
        """
        d_sae = self.expansion * d_model
        if self.k > d_sae:
            raise UserError(f"sae.k is {self.k}", expected=f"at most d_sae = expansion * d_model = {d_sae}")
        return d_sae

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return max(1, self.training_rows // self.batch_size)

    @property
    def warm_up_steps(self) -> int:
        """Steps over which the learning rate rises."""
        return min(self.steps // 20, 1000)

    @property
    def sparsity_warm_up_steps(self) -> int:
        """Steps over which a sparsity penalty rises from zero."""
        return self.steps // 5

    @property
    def decay_steps(self) -> int:
        """Last steps, over which the learning rate falls linearly to zero."""
        return self.steps * 2 // 5

    @property
    def dead_feature_window(self) -> int:
        """Steps without firing after which a feature counts as dead while training."""
        return max(1, min(self.steps // 10, 10_000_000 // self.batch_size))
