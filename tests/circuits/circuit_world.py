"""Random models, prompts in which two words differ in the same way, and circuits found in them: what the
tests of circuits share.
"""

import torch
from planted.paper_model import difference, random_batch, random_model, random_saes
from planted.tasks import task_of

import emocircuits
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs


def systematic(n: int, length: int, start: int = 0) -> PairBatch:
    """Random prompts in which two words differ between the sides in the same way, so that effects have a
    sign.
    """
    clean = random_batch(n, length).clean
    corrupt = clean.clone()
    clean[:, 1], clean[:, 3], corrupt[:, 1], corrupt[:, 3] = 1, 4, 2, 6
    clean[:, -1] = corrupt[:, -1] = 9
    return PairBatch(clean, corrupt, torch.arange(start, start + n))


def found_in(nodes: str, **options):
    """The find task, the score task and the attribution of the former."""
    torch.manual_seed(0)
    model, saes = random_model(), None if nodes == "components" else random_saes("topk", 3, 12)
    find = task_of(model, systematic(8, 7), difference, saes)
    score = find.on(PromptPairs((systematic(5, 7, start=20),)))
    return find, score, emocircuits.attribute(find, nodes=nodes, **options)
