"""emocircuits: from emotion directions to the circuits that carry them to behaviour.

The public names are the lines of `__init__.pyi`. Each loads its module, and with it torch, when it is first
asked for.
"""

import ast
import os
from pathlib import Path
from typing import Any

__version__ = "0.2.0.dev0"

# A thread that waits for work spins, by default for milliseconds: next to another busy process it takes the
# core from the thread it waits for. 5000 turns outlast the pause between two operations; libgomp reads this
# when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _public_names() -> dict[str, str]:
    """Name -> module, as `__init__.pyi` imports them."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in imports for alias in line.names}


_MODULE_OF = _public_names()
__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'emocircuits' has no attribute '{name}'")
    # as `from module import name` does: the name may be a module itself
    globals()[name] = value = getattr(__import__(_MODULE_OF[name], fromlist=[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
