"""What a written answer did, by rules: patterns of the behaviour and of the honest acts
(`natural/judges.toml`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emocircuits.errors import UserError, unknown

JUDGES = Path(__file__).parent / "natural" / "judges.toml"
KINDS = ("target", "honest", "other")


@dataclass(frozen=True, eq=False)
class Judge:
    """Patterns of one behaviour; the kind whose pattern stands first in a text is what the text did."""

    patterns: Mapping[str, Sequence[re.Pattern[str]]]

    def __call__(self, text: str) -> str:
        """`target`, `honest` or `other`."""
        first = {
            kind: min(
                (found.start() for pattern in patterns if (found := pattern.search(text))), default=None
            )
            for kind, patterns in self.patterns.items()
        }
        seen = {kind: place for kind, place in first.items() if place is not None}
        return min(seen, key=lambda kind: (seen[kind], KINDS.index(kind))) if seen else "other"

    def rates(self, texts: Sequence[str]) -> dict[str, float]:
        """Share of each kind.

        Raises:
            UserError: no texts.
        """
        if not texts:
            raise UserError("there are no answers to judge")
        kinds = [self(text) for text in texts]
        return {kind: kinds.count(kind) / len(kinds) for kind in KINDS}


@cache
def judge_of(behaviour: str, path: Path = JUDGES) -> Judge:
    """The judge of a behaviour.

    Raises:
        UserError: it has none.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if behaviour not in table:
        raise unknown("judge", behaviour, table)
    return Judge(
        {
            kind: tuple(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in table[behaviour][kind])
            for kind in ("target", "honest")
        }
    )
