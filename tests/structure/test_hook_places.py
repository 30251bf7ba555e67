"""Hooks are set in `passes/hooks.py`; everything else goes through its contexts."""

import re
from pathlib import Path

import emocircuits

PACKAGE = Path(emocircuits.__file__).parent
SETS_A_HOOK = re.compile(
    r"\.hooks\((\w+_hooks|\[)|\.add_hook\(|register_(full_)?(forward|backward)|run_with_(hooks|cache)"
)
EXCEPT = {
    "passes/hooks.py",
    "models/checks.py",  # asks whether the bridge's own contexts work
    "sae/quality.py",  # a lower row
    "passes/record.py",
    "passes/last_block.py",
}
ROOMS = ("graphs", "attribution", "circuits")


def test_hooks_are_set_in_one_place():
    places = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ROOMS and SETS_A_HOOK.search(path.read_text())
    }
    assert not places - EXCEPT
