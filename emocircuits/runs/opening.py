"""Opening the run that a command asks about."""

from collections.abc import Sequence
from pathlib import Path

from emocircuits.models.loading import AS_IT_IS, Loading
from emocircuits.runs.run import Run


def open_run(directory: Path, loading: Loading = AS_IT_IS, overrides: Sequence[str] = ()) -> Run:
    """A finished run, whose model is loaded as a command says.

    Args:
        directory: the run directory.
        loading: how its model is loaded.
        overrides: `key=value` texts that change its recipe.

    Raises:
        UserError: what `Run.open` refuses.
    """
    return Run.open(
        directory,
        (*overrides, *loading.changes),
        trust_remote_code=loading.trust_remote_code,
        checks=loading.checks,
    )
