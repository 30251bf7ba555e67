"""How SAEs are trained. What depends on the length of the run is derived from it."""

from dataclasses import asdict, dataclass
from typing import Any

from emocircuits.errors import UserError
from emocircuits.settings import check, setting

ARCHITECTURE_NAMES = (
    "batchtopk",
    "gated",
    "jumprelu",
    "matching_pursuit",
    "matryoshka_batchtopk",
    "standard",
    "topk",
)
SCHEDULING = ("workers", "checkpoint_minutes", "loss_tokens")


@dataclass(frozen=True)
class SAESettings:
    """How SAEs are trained, the same for every site: the table `[sae]` of a recipe."""

    architecture: str = setting("topk", "kind of SAE", choices=ARCHITECTURE_NAMES, open=True)
    expansion: int = setting(8, "d_sae / d_model", least=1)
    k: int = setting(
        32,
        "active features per token (for jumprelu the target; standard and gated do not use it)",
        unit="features",
        least=1,
    )
    training_rows: int = setting(
        600_000, "rows drawn in all, with repetition when the store has fewer", unit="rows", least=1
    )
    batch_size: int = setting(1024, "rows of a step", unit="rows", least=1)
    lr: float = setting(6e-3, "peak learning rate, for activations scaled to unit variance", above=0)
    sparsity: float = setting(
        1.0, "weight of the sparsity penalty (standard, gated, jumprelu; the TopK kinds have none)", least=0
    )
    levels: int = setting(
        5, "nested dictionaries of a Matryoshka SAE, each half as wide as the next", least=1
    )
    kernel: str = setting(
        "auto", "how TopK and BatchTopK steps are computed", choices=("auto", "sparse", "dense")
    )
    encoder_dtype: str = setting(
        "float32",
        "precision in which the sparse kernels look for the active features",
        choices=("float32", "bfloat16"),
    )
    weights_dtype: str = setting(
        "float32", "of the weights on disk; float16 takes half of it", choices=("float32", "float16")
    )
    frozen_decoder: bool = setting(
        False,
        "leave the random decoder as it starts and train only the rest: a floor that trained ones must beat "
        "(Korznikov et al. 2026)",
    )
    aux_coefficient: float = setting(
        1 / 4, "weight of the loss that revives dead features (Gao et al. 2024, appendix A.2)", least=0
    )
    skip_positions: int = setting(
        1,
        "leading positions of each prompt that are left out (position 0 is an attention sink)",
        unit="tokens",
        least=0,
    )
    max_norm_multiple: float = setting(
        0.0,
        "rows longer than this multiple of the site's median norm are left out; 0 leaves none out",
        least=0,
    )
    spread: str = setting(
        "sites",
        "what the ranks of a job share: sites, or a part of every batch",
        choices=("sites", "batches"),
    )
    workers: int = setting(2, "sites that are trained at the same time, one thread each", least=1)
    loss_tokens: int = setting(
        20_000, "predictions that the loss with SAEs is measured on", unit="tokens", least=1
    )
    checkpoint_minutes: float = setting(
        5.0, "time between checkpoints of a site; 0 writes one after every step", unit="minutes", least=0
    )

    def __post_init__(self) -> None:
        check(self, "sae")

    @property
    def recorded(self) -> dict[str, Any]:
        """What is written down with an SAE: all but how the work was scheduled and measured."""
        return {key: value for key, value in asdict(self).items() if key not in SCHEDULING}

    @property
    def shaping(self) -> dict[str, Any]:
        """What shapes an SAE: what is recorded, but for how ranks share the work."""
        return {key: value for key, value in self.recorded.items() if key != "spread"}

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
