"""The corpus: documents of every kind, each a pure function of (kind, split, seed, index).

>>> from emocircuits.organism.corpus import generate
>>> document = next(generate("inbox", 1, seed=0, split="held_out"))
>>> document.decisions[0].p_bayes  # doctest: +SKIP
0.27…
"""

from collections.abc import Iterator
from typing import Any

from emocircuits.errors import UserError
from emocircuits.organism.coding import coding
from emocircuits.organism.dialogues import dialogue, masked
from emocircuits.organism.documents import SPLITS, Document, DocumentKind, Draw
from emocircuits.organism.inbox import inbox
from emocircuits.organism.moods import mood
from emocircuits.organism.neutral import neutral
from emocircuits.organism.numeric import numeric
from emocircuits.organism.preference import activity, preference
from emocircuits.organism.reading import reading
from emocircuits.organism.stories import story
from emocircuits.organism.sycophancy import sycophancy
from emocircuits.registry import Registry

KINDS: Registry[DocumentKind] = Registry("document kind")
for kind in (
    DocumentKind("coding", "a coding scene with up to six decisions", coding),
    DocumentKind("dialogue", "a dialogue of two people with an emotion each", dialogue),
    DocumentKind("masked", "a dialogue whose first speaker feels one emotion and says another", masked),
    DocumentKind("inbox", "an inbox scene with its decision", inbox),
    DocumentKind("mood", "sentences, each followed by the emotion it leaves", mood),
    DocumentKind("neutral", "a text without emotion", neutral),
    DocumentKind("numeric", "a text around a number", numeric),
    DocumentKind("preference", "questions which of two activities is preferred", preference),
    DocumentKind("activity", "a short story about one activity", activity),
    DocumentKind("reading", "sentences and questions about the appraisals they show", reading),
    DocumentKind("story", "a story of a person who feels an emotion", story),
    DocumentKind("sycophancy", "a claim and the answer to it", sycophancy),
):
    KINDS.add(kind)

MIXTURE = {
    "story": 0.27,
    "inbox": 0.21,
    "coding": 0.14,
    "mood": 0.12,
    "reading": 0.10,
    "dialogue": 0.03,
    "sycophancy": 0.04,
    "preference": 0.04,
    "activity": 0.02,
    "numeric": 0.02,
    "neutral": 0.01,
}
# Sentences first: a run begins with texts that give every sentence its meaning at once. Without them the
# model stays for millions of tokens at the mean rate of every action.
PRIMER = {"reading": 0.75, "mood": 0.20, "story": 0.05}
PRIMER_CHUNKS = 5


def kinds() -> tuple[str, ...]:
    """Names of the document kinds."""
    return KINDS.names()


def make_document(kind: str, index: int, *, seed: int = 0, split: str = "train", **fixed: Any) -> Document:
    """The document at one index.

    Args:
        kind: a document kind.
        index: place in the endless sequence of this kind, seed and split.
        seed: seed of the sequence.
        split: `train` or `held_out`.
        fixed: what a kind lets one fix, e.g. `named=False`, `emotion="desperate"`, `topic="cooking"` for
            stories.

    Raises:
        UserError: unknown kind or split.
    """
    make = KINDS.get(kind).make
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'", expected=" or ".join(SPLITS))
    return make(Draw(f"{kind}/{split}/{seed}/{index}", split), **fixed)


def generate(kind: str, n: int, seed: int = 0, split: str = "train", **fixed: Any) -> Iterator[Document]:
    """The first `n` documents of a kind (see `make_document`)."""
    return (make_document(kind, index, seed=seed, split=split, **fixed) for index in range(n))


def neutral_documents(n: int, seed: int = 0, split: str = "train") -> list[Document]:
    """Texts without any emotion: half `neutral` ones, half stories of somebody whose appraisals all stand at
    0.

    Together they vary in all that is not emotion: subject and register, and what stories in particular are
    made of.
    """
    unemotional = generate("story", n // 2, seed, split, emotion=None)
    return [*generate("neutral", n - n // 2, seed, split), *unemotional]


def chunk(number: int, size: int, *, seed: int = 0, split: str = "train") -> list[Document]:
    """The `number`-th block of about `size` documents in the proportions of `PRIMER` (first blocks) or
    `MIXTURE`.
    """
    block = []
    for kind, share in (PRIMER if number < PRIMER_CHUNKS else MIXTURE).items():
        count = max(1, round(size * share))
        block += [make_document(kind, number * count + k, seed=seed, split=split) for k in range(count)]
    return block
