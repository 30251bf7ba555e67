"""Notebooks that are Python files with cells between `# %%`."""

from typing import Any

import jupytext


def read(text: str) -> Any:
    """The notebook of such a file, which says that it is in Python also where it is not run."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook
