"""The errors a person sees: one line that names the thing, the value, what was expected and the cure."""

import difflib
from collections.abc import Iterable


class EmocircuitsError(Exception):
    """An error meant for the person at the keyboard.

    Args:
        what: the thing and the value that is wrong.
        expected: what would have been right.
        cure: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, expected: str | None = None, cure: str | None = None):
        self.what, self.expected, self.cure = what, expected, cure
        parts = [what, f"expected {expected}" if expected else None, cure]
        super().__init__("; ".join(" ".join(part.split()) for part in parts if part))


class UserError(EmocircuitsError):
    """The input is wrong and the person can mend it (exit code 2)."""

    exit_code = 2


class Failure(EmocircuitsError):
    """The input was fine and the work still failed (exit code 1)."""


def nearest(value: str, known: Iterable[str]) -> str | None:
    """The known name that a name was probably meant to be; None where none is near."""
    near = difflib.get_close_matches(value, sorted(known), n=1, cutoff=0.5)
    return near[0] if near else None


def unknown(kind: str, value: str, known: Iterable[str]) -> UserError:
    """The error for a name that nothing answers to: suggests the nearest name, lists the known ones."""
    names = sorted(known)
    near = nearest(value, names)
    shown = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    cure = f"did you mean '{near}'? known: {shown}" if near else f"known: {shown or 'none'}"
    return UserError(f"unknown {kind} '{value}'", cure=cure)
