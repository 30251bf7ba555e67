"""Several ranks train one SAE together: each computes its part of every batch, and they meet in sums.

`SAETrainer` stays as it is. Its loss is a mean over tokens, so gradients are averaged over the ranks where
they arise, before they are clipped and used; whether a feature fired, and which entries BatchTopK selects, is
decided over all ranks. With equal parts two ranks then take the steps of one process on the whole batch, up
to the order of additions.
"""

import torch
from jaxtyping import Float
from sae_lens import SAETrainer, TrainingSAE
from torch import Tensor

from emocircuits.ranks import gather, ranks, sum_over_ranks


def share_gradients(sae: TrainingSAE) -> None:
    """Averages the gradients of all ranks inside every backward pass, all weights in one sum."""
    sae.together = True  # what a batch as a whole decides is decided over all ranks
    weights = [weight for weight in sae.parameters() if weight.requires_grad]
    arrived: list[Tensor] = []

    def arrive(weight: Tensor) -> None:
        arrived.append(weight)
        if len(arrived) < len(weights):
            return
        arrived.clear()
        flat = torch.cat([one.grad.flatten() for one in weights])
        sum_over_ranks(flat)
        flat /= ranks().size
        for one, part in zip(weights, flat.split([one.numel() for one in weights]), strict=True):
            one.grad.copy_(part.view_as(one))

    for weight in weights:
        weight.register_post_accumulate_grad_hook(arrive)


def step_together(trainer: SAETrainer, batch: Float[Tensor, "batch d_in"]) -> None:
    """This rank's part of one training step; afterwards the firing counters are the same on every rank."""
    part = ranks().slice_of(len(batch))
    counts, idle = trainer.act_freq_scores.clone(), trainer.n_forward_passes_since_fired.clone()
    trainer.step(batch[part])
    # the trainer counts samples of its own part only; its schedules know the whole batch
    trainer.n_training_samples += len(batch) - (part.stop - part.start)
    fired = trainer.act_freq_scores - counts
    sum_over_ranks(fired)
    trainer.act_freq_scores = counts + fired
    trainer.n_forward_passes_since_fired = torch.where(fired > 0, 0.0, idle + 1)


def least_of_all(values: Float[Tensor, "value"]) -> Float[Tensor, "1"]:
    """The smallest value on any rank; infinity where there is none."""
    return gather(values.min().view(1) if len(values) else values.new_full((1,), torch.inf)).amin(0)


def share_of(largest: Float[Tensor, "candidate"], count: int) -> tuple[int, float]:
    """How many of the `count` largest values of all ranks are this rank's, and the smallest of them.

    Of equal values at the edge those of lower ranks come first.

    Args:
        largest: this rank's largest values, descending; at most `count`.
        count: how many are selected over all ranks.
    """
    padded = largest.new_full((count,), -torch.inf)
    padded[: len(largest)] = largest
    everyone = gather(padded)
    if int(torch.isfinite(everyone).sum()) <= count:
        return len(largest), 0.0
    edge = torch.topk(everyone.flatten(), count, sorted=False).values.min()
    above, equal = (everyone > edge).sum(1), (everyone == edge).sum(1)
    open_places = count - int(above.sum()) - int(equal[: ranks().rank].sum())
    return int(above[ranks().rank]) + max(0, min(int(equal[ranks().rank]), open_places)), float(edge)
