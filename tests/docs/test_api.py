"""The pages of the API describe every public name once."""

import re
from collections import Counter
from pathlib import Path

import emocircuits

API = Path(__file__).resolve().parents[2] / "docs" / "api"
ENTRY = re.compile(r"^\.\. (?:autofunction|autoclass|automodule|py:data):: emocircuits\.(\S+)$", re.MULTILINE)
MODULES = {"interventions.edits": "edits"}


def entries() -> list[str]:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted(API.glob("*.md")))
    return [MODULES.get(name, name) for name in ENTRY.findall(pages)]


def test_every_public_name_is_described_once():
    described = Counter(entries())
    public = {*emocircuits.__all__} - {"__version__"}
    assert public - {*described} == set()
    assert [name for name, times in described.items() if times > 1] == []


def test_what_is_described_beyond_them_is_written_with_its_module():
    public = {*emocircuits.__all__}
    assert [name for name in entries() if name not in public and "." not in name] == []


def test_the_index_lists_every_page():
    index = (API / "index.md").read_text(encoding="utf-8")
    assert {path.stem for path in API.glob("*.md")} - {"index"} <= {*index.split()}
