"""The threshold of a BatchTopK SAE, measured on held-out rows.

sae-lens follows it while training by a moving average that starts at zero, so after a short run it is far too
low (60 steps of k = 8 were exported with L0 65) and after a long one it lags behind the last weights.
"""

import torch
from sae_lens import BatchTopKTrainingSAE

from emocircuits.errors import UserError
from emocircuits.sae.architectures.card import Blocks

KEPT = 4


@torch.no_grad()
def calibrate_threshold(sae: BatchTopKTrainingSAE, rows: Blocks) -> None:
    """Sets `topk_threshold` so that the rows have `k` active features each on average, and notes it in the
    metadata.

    With N rows it lies halfway between the (N·k)-th and the next largest pre-activation, and never below
    zero.

    Args:
        sae: trained, decoder norms folded.
        rows: rows in blocks, in the units the SAE is saved for.

    Raises:
        UserError: no rows.
    """
    kept, count, floor = [], 0, 0.0
    for block in rows():
        x = block.to(sae.W_enc.device, sae.W_enc.dtype)
        acts = ((x - sae.b_dec * sae.cfg.apply_b_dec_to_input) @ sae.W_enc + sae.b_enc).flatten()
        acts = acts[acts > 0]
        most = int(KEPT * sae.cfg.k * len(x))
        if len(acts) > most:
            acts = torch.topk(acts, most, sorted=True).values
            floor = max(floor, float(acts[-1]))
        kept.append(acts.cpu())
        count += len(x)
    if count == 0:
        raise UserError("no rows to measure the threshold of a BatchTopK SAE on", cure="collect more texts")
    values, wanted = torch.cat(kept), round(count * sae.cfg.k)
    threshold = 0.0
    if len(values) > wanted:
        last, following = torch.topk(values, wanted + 1).values[-2:].tolist()
        # a block that was cut short above the threshold would hide active features
        threshold = max((last + following) / 2, floor)
    sae.topk_threshold.fill_(threshold)
    sae.cfg.metadata.threshold_rows = count
