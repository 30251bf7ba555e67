"""Where the package keeps what it can make again: facts of large files, converted models."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """`EMOCIRCUITS_CACHE`, or `emocircuits` in the user's cache directory; it need not be there."""
    own = os.environ.get("EMOCIRCUITS_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "emocircuits"
