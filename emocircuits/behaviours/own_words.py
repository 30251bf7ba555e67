"""Action words that are the model's own: what it would write next, once it has decided for the act or for the
honest deed.

After the same prompt stands the decision, in the words of the scenario's options, and then the beginning of
the answer. Of the tokens that the model writes there, those that the decision for the act makes at least
twice as likely as the other are words of the act, those that it makes half as likely are honest ones; the
others say nothing of the decision. The words are chosen on prompts of the split `find` and never changed
after that, so how well they tell the two decisions apart on other prompts (`OwnWords.separation`) is a fair
test of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.errors import UserError

LEAST = 0.002  # probability after one of the decisions, on the mean over prompts
RATIO = 2.0
PROMPTS = 8  # that the words are chosen on, and as many that they are tried on


@dataclass(frozen=True)
class OwnWords:
    """Tokens of the act and of the honest deed.

    Attributes:
        target_ids, honest_ids: the tokens, the likeliest first.
        targets, honest: their texts.
        separation: share of held-out prompts in which the log-odds are higher after the decision for the act
            than after the other; one half is chance.
        prompts: held-out prompts that was counted on.
    """

    target_ids: tuple[int, ...]
    honest_ids: tuple[int, ...]
    targets: tuple[str, ...]
    honest: tuple[str, ...]
    separation: float
    prompts: int

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "OwnWords":
        """From what was written as JSON."""
        return cls(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        )


@torch.no_grad()
def own_words(model: Any, find: Sequence[tuple[str, str]], held_out: Sequence[tuple[str, str]]) -> OwnWords:
    """Chooses the words.

    Args:
        model: a `LanguageModel`.
        find: prompts to choose on, each after the decision for the act and after the other.
        held_out: prompts to try them on.

    Raises:
        UserError: a model that cannot be run, or no token that the decision moves in one of the directions.
    """
    if not hasattr(model, "bridge"):
        raise UserError("a model's own words", expected="a loaded model, which says them")
    act, honest = (torch.stack([_next(model, pair[side]) for pair in find]).mean(0) for side in (0, 1))
    ratio = (act + 1e-9).log() - (honest + 1e-9).log()
    likely = torch.maximum(act, honest) >= LEAST
    threshold = torch.tensor(RATIO).log()
    chosen = []
    for name, sign, weight in (("the act", 1, act), ("the honest deed", -1, honest)):
        ids = torch.nonzero(likely & (sign * ratio >= threshold)).flatten()
        ids = ids[weight[ids].argsort(descending=True)]
        if not len(ids):
            raise UserError(
                f"no word of this model becomes likelier by the decision for {name}",
                expected="words that tell the decisions apart",
                cure="ask for a forced choice instead",
            )
        chosen.append(tuple(ids.tolist()))
    first, second = (list(ids) for ids in chosen)
    higher = [
        float(after_act[first].sum().log() - after_act[second].sum().log())
        > float(after_honest[first].sum().log() - after_honest[second].sum().log())
        for after_act, after_honest in ((_next(model, pair[0]), _next(model, pair[1])) for pair in held_out)
    ]
    return OwnWords(
        *chosen,
        *(tuple(text.strip() or repr(text) for text in model.token_texts(ids)) for ids in chosen),
        separation=sum(higher) / len(higher),
        prompts=len(higher),
    )


def _next(model: Any, prompt: str) -> Float[Tensor, "d_vocab"]:
    """Probabilities of the next token."""
    tokens = torch.tensor([model.encode(prompt)], device=model.bridge.cfg.device)
    return model.bridge(tokens, use_cache=False, logits_to_keep=1)[0, -1].double().softmax(-1).cpu()
