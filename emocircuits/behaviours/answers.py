"""What a written answer did, by rules: patterns of the behaviour and of the honest acts
(`natural/answer_rules.toml`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emocircuits.errors import UserError, unknown

RULES = Path(__file__).parent / "natural" / "answer_rules.toml"
ANSWERS = ("target", "honest", "other")


@dataclass(frozen=True, eq=False)
class AnswerRules:
    """Patterns of one behaviour; the kind whose pattern stands first in a text is what the text did."""

    patterns: Mapping[str, Sequence[re.Pattern[str]]]

    def __call__(self, text: str) -> str:
        """`target`, `honest` or `other`."""
        begins = {
            kind: min(
                (match.start() for pattern in patterns if (match := pattern.search(text))), default=None
            )
            for kind, patterns in self.patterns.items()
        }
        seen = {kind: begin for kind, begin in begins.items() if begin is not None}
        return min(seen, key=lambda kind: (seen[kind], ANSWERS.index(kind))) if seen else "other"

    def rates(self, texts: Sequence[str]) -> dict[str, float]:
        """Share of each kind.

        Raises:
            UserError: no texts.
        """
        if not texts:
            raise UserError("there are no answers to classify")
        kinds = [self(text) for text in texts]
        return {kind: kinds.count(kind) / len(kinds) for kind in ANSWERS}


@cache
def answer_rules(behaviour: str, path: Path = RULES) -> AnswerRules:
    """The rules of a behaviour.

    Raises:
        UserError: it has none.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if behaviour not in table:
        raise unknown("behaviour with answer rules", behaviour, table)
    return AnswerRules(
        {
            kind: tuple(re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in table[behaviour][kind])
            for kind in ("target", "honest")
        }
    )
