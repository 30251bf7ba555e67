"""A behaviour bound to a model: the first of its materials that fits the model's tokenizer, with ids, metric
and pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from emocircuits.behaviours.material import Material, PromptPair
from emocircuits.behaviours.metrics import LogOdds, log_odds
from emocircuits.behaviours.natural import LETTERS, NATURAL, decided, natural_pairs, read_scenario, words_of
from emocircuits.behaviours.own_words import PROMPTS, OwnWords, own_words
from emocircuits.behaviours.prompt_pairs import Encoder, encode_pairs, read_pairs
from emocircuits.behaviours.targets import Vocabulary, both_token_ids
from emocircuits.errors import UserError
from emocircuits.passes.prompt_pairs import DEFAULT_MAX_TOKENS, PromptPairs
from emocircuits.passes.task import Task

if TYPE_CHECKING:
    from emocircuits.behaviours.behaviour import Behaviour


@runtime_checkable
class Model(Encoder, Vocabulary, Protocol):
    """What is needed of a model here: `encode` and `single_token`."""


@dataclass(frozen=True)
class BoundBehaviour:
    """A behaviour ready to be measured on one model.

    Attributes:
        behaviour: its card.
        model: the model whose tokens it was bound to.
        material: the material that fits the model.
        metric: log-odds of the material's action words.
        find: pairs for discovery.
        score: pairs for scoring.
        own: how the model's own words were chosen, where it is asked by those.
    """

    behaviour: "Behaviour"
    model: Model
    material: Material
    metric: LogOdds
    find: tuple[PromptPair, ...]
    score: tuple[PromptPair, ...]
    own: OwnWords | None = None

    def task(
        self,
        split: str,
        saes: Mapping[str, Any] = MappingProxyType({}),
        *,
        limit: int | None = None,
        max_tokens: int | None = None,
    ) -> Task:
        """The task on the pairs of one split, thinned evenly to `limit`.

        Args:
            split: "find" or "score".
            saes: site -> SAE; none where nodes are the model's components.
            limit: at most this many pairs; None for all.
            max_tokens: tokens of one side per pass; None for a task's own default.
        """
        return Task(
            self.model,
            self.prompts(split, limit),
            self.metric_on(self.pairs(split, limit)),
            saes,
            max_tokens or DEFAULT_MAX_TOKENS,
            self.behaviour.name,
        )

    def metric_on(self, pairs: Sequence[PromptPair]) -> LogOdds:
        """The metric, which knows by their places those pairs in which the act is the second option."""
        swapped = frozenset(
            number for number, pair in enumerate(pairs) if pair.details.get("act") == LETTERS[1]
        )
        return replace(self.metric, swapped=swapped)

    def prompts(self, split: str, limit: int | None = None) -> PromptPairs:
        """Token ids of the pairs of one split; the index is the place in `pairs(split, limit)`."""
        return PromptPairs.of_tokens(encode_pairs(self.model, self.pairs(split, limit)))

    def neutral_task(
        self,
        split: str,
        saes: Mapping[str, Any] = MappingProxyType({}),
        *,
        limit: int | None = None,
        max_tokens: int | None = None,
    ) -> Task:
        """`task` on at most `limit` prompts without pressure, each paired with itself."""
        pairs = self.pairs(split, limit)
        encoded = [self.model.encode(text) for text, _ in neutral_prompts(pairs)][:limit]
        task = self.task(split, saes, limit=limit, max_tokens=max_tokens)
        return task.on(PromptPairs.of(encoded, encoded))

    def pairs(self, split: str, limit: int | None = None) -> tuple[PromptPair, ...]:
        """The pairs of one split; with a limit those at even distances over the file, so that every kind of
        prompt stays in. Choices stay in both orders: of an odd limit one less is taken, and never one alone.
        """
        pairs = {"find": self.find, "score": self.score}[split]
        if limit is None or limit >= len(pairs):
            return pairs
        together = len(LETTERS) if self.material.form == "choice" else 1
        count, total = max(1, limit // together), len(pairs) // together
        firsts = (number * total // count * together for number in range(count))
        return tuple(pair for first in firsts for pair in pairs[first : first + together])


def neutral_prompts(pairs: Sequence[PromptPair]) -> list[tuple[str, float | None]]:
    """Prompts without pressure, each with the true rate where it is known: the neutral ones of the pairs, or
    both sides of the pairs where they have none.
    """
    neutral = [
        (pair.details["neutral"], pair.details.get("true_neutral"))
        for pair in pairs
        if "neutral" in pair.details
    ]
    if neutral:
        return neutral
    return [
        side for pair in pairs for side in ((pair.clean, pair.true_clean), (pair.corrupt, pair.true_corrupt))
    ]


def bind(
    behaviour: "Behaviour",
    model: Model,
    materials: Sequence[str] | None = None,
    *,
    own: OwnWords | None = None,
) -> BoundBehaviour:
    """Binds a behaviour to a model.

    Args:
        behaviour: the card.
        model: anything with `encode` and `single_token`.
        materials: names of materials to try in this order; None for all the card has.
        own: the model's own words where they were chosen before; they are chosen now where they are needed.

    Raises:
        UserError: no material fits; the message says why for each (a word of several tokens, a pair of
            unequal lengths).
    """
    reasons: list[tuple[str, UserError]] = []
    for name in materials or tuple(behaviour.materials):
        material = behaviour.material(name)
        try:
            return _bind(behaviour, material, model, own)
        except UserError as error:
            reasons.append((name, error))
    if len(reasons) == 1:
        raise reasons[0][1]
    told = "; ".join(f"{name}: {error.what}" for name, error in reasons)
    raise UserError(
        f"behaviour '{behaviour.name}' fits no material to this model ({told})",
        cure="choose words that are single tokens and prompts of equal token length for this model",
    )


def _bind(behaviour: "Behaviour", material: Material, model: Model, own: OwnWords | None) -> BoundBehaviour:
    if material.scenario:
        return _bind_natural(behaviour, material, model, own)
    return _bound(behaviour, material, model, read_pairs(material))


def _bind_natural(
    behaviour: "Behaviour", material: Material, model: Model, own: OwnWords | None
) -> BoundBehaviour:
    scenario = read_scenario(NATURAL / material.scenario)
    if material.form == "own":
        pairs = natural_pairs(scenario, model, mails=material.mails)
        words = own or own_words(model, *decided(scenario, model, PROMPTS))
        chosen = replace(material, targets=words.targets, honest=words.honest)
        bound = _with_metric(behaviour, chosen, model, pairs, (words.target_ids, words.honest_ids))
        return replace(bound, own=words)
    if material.form == "choice":
        pairs = natural_pairs(scenario, model, mails=material.mails, choice=True)
        first, second = letter_ids(model, pairs[0].clean)
        return _with_metric(behaviour, material, model, pairs, ((first,), (second,)))
    targets, honest = words_of(scenario.targets, model), words_of(scenario.honest, model)
    for kind, known, words in (("target", targets, scenario.targets), ("honest", honest, scenario.honest)):
        if not known:
            raise UserError(
                f"none of the {kind} words {', '.join(words)} is one token of this model",
                expected="at least one",
                cure=f"add words to {material.scenario} that its tokenizer knows",
            )
    left_out = [word for word in (*scenario.targets, *scenario.honest) if word not in (*targets, *honest)]
    chosen = replace(
        material,
        targets=targets,
        honest=tuple(word for word in honest if word not in targets),
        left_out=tuple(left_out),
    )
    return _bound(behaviour, chosen, model, natural_pairs(scenario, model, mails=material.mails))


def letter_ids(model: Encoder, prompt: str) -> tuple[int, ...]:
    """The tokens by which a prompt that ends in `(` is continued with each option's letter.

    Raises:
        UserError: a letter is no token of its own there.
    """
    before, found = model.encode(prompt), []
    for letter in LETTERS:
        after = model.encode(prompt + letter)
        if after[:-1] != before:
            raise UserError(
                f"the letter {letter} is not one token of this model after '('",
                expected="options that are chosen by one token",
            )
        found.append(after[-1])
    return tuple(found)


def _bound(
    behaviour: "Behaviour", material: Material, model: Model, pairs: tuple[PromptPair, ...]
) -> BoundBehaviour:
    return _with_metric(
        behaviour, material, model, pairs, both_token_ids(model, material.targets, material.honest)
    )


def _with_metric(
    behaviour: "Behaviour",
    material: Material,
    model: Model,
    pairs: tuple[PromptPair, ...],
    ids: tuple[tuple[int, ...], tuple[int, ...]],
) -> BoundBehaviour:
    encode_pairs(model, pairs)
    find, score = (tuple(pair for pair in pairs if pair.split == split) for split in ("find", "score"))
    if not find or not score:
        raise UserError(
            f"{material.path.name} holds {len(find)} pairs to find and {len(score)} to score",
            expected="some of both",
        )
    label = (
        "act − honest, chosen by letter"
        if material.form == "choice"
        else f"{' / '.join(material.targets)} − {' / '.join(material.honest)}"
    )
    return BoundBehaviour(behaviour, model, material, log_odds(*ids, label), find, score)
