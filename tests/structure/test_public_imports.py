"""What a reader is shown imports from `emocircuits` alone: documentation, notebooks, examples, studies."""

import re
from pathlib import Path

from structure.rows import ROOT

import emocircuits

BLOCK = re.compile(
    r"^```+\s*(?:\{code-cell\}\s*)?(?:python|ipython3?|py)?\n(.*?)^```+$", re.MULTILINE | re.DOTALL
)
INTERNAL = re.compile(r"^\s*(?:from\s+emocircuits\.[\w.]+\s+import|import\s+emocircuits\.\w)", re.MULTILINE)
NAME = re.compile(r"\bemo\.(\w+)|\bemocircuits\.(\w+)[(.]")


def pages() -> list[Path]:
    docs = ROOT / "docs"
    found = [ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md")]
    found += [path for path in docs.rglob("*.md") if not {"_build", "_generated"} & {*path.parts}]
    return found


def blocks(page: str) -> str:
    """The fenced blocks of a page."""
    kept, inside = [], False
    for line in page.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside:
            kept.append(line.strip())
    return "\n".join(kept)


def code() -> dict[str, str]:
    """Path -> the code that it shows."""
    shown = {str(path): blocks(path.read_text(encoding="utf-8")) for path in pages()}
    for folder in ("docs/notebooks", "docs/examples", "analyses"):
        for path in (ROOT / folder).rglob("*.py"):
            shown[str(path)] = path.read_text(encoding="utf-8")
    return shown


def test_code_that_is_shown_is_found():
    shown = code()
    assert (
        sum("import emocircuits" in text or "from emocircuits import" in text for text in shown.values()) > 20
    )
    assert INTERNAL.search("from emocircuits.runs.run import Run") and INTERNAL.search(
        "import emocircuits.io"
    )
    assert not INTERNAL.search("from emocircuits import Run\nimport emocircuits as emo")


def test_nothing_shown_imports_an_internal_module():
    assert {path: INTERNAL.findall(text) for path, text in code().items() if INTERNAL.search(text)} == {}


def test_every_public_name_that_is_shown_exists():
    for path, text in code().items():
        if "import emocircuits" in text:
            assert {short or full for short, full in NAME.findall(text)} <= {*dir(emocircuits)}, path
