"""How a command loads a model, besides what a run says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emocircuits.models.language_model import LanguageModel


@dataclass(frozen=True)
class Loading:
    """How a model is loaded.

    Attributes:
        device: torch device; None is the run's own, or the processor.
        dtype: float32, bfloat16 or float64; None is the run's own, or float32.
        checks: whether the load-time checks are run.
        trust_remote_code: whether the model directory may run its own code.
    """

    device: str | None = None
    dtype: str | None = None
    checks: bool = True
    trust_remote_code: bool = False

    @property
    def changes(self) -> tuple[str, ...]:
        """`key=value` texts that change a run's recipe."""
        said = {"device": self.device, "dtype": self.dtype}
        return tuple(f"{name}={value}" for name, value in said.items() if value is not None)

    def load(self, name: str) -> "LanguageModel":
        """A model of no run (`load_model`)."""
        from emocircuits.models.loader import load_model

        return load_model(
            name,
            device=self.device or "cpu",
            dtype=self.dtype or "float32",
            checks=self.checks,
            trust_remote_code=self.trust_remote_code,
        )


AS_IT_IS = Loading()
