"""sae-lens' TopK and BatchTopK training SAEs with sparse kernels, for use in its own `SAETrainer`.

A dense step costs six products of batch × d_in × d_sae. Here one stays, the pre-activations; selection,
decoding and gradients touch only the active features. Losses, activations and gradients are sae-lens', dead
features' auxiliary loss included. Small SAEs, other devices, hooked SAEs and everything sae-lens does besides
(other normalisations, autocast) take its dense path.
"""

import torch
from jaxtyping import Float
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn.functional import linear

from emocircuits.ranks import ranks
from emocircuits.sae.selection import Selection, largest_of_batch, largest_per_row
from emocircuits.sae.training.data_parallel import least_of_all, share_of
from emocircuits.sae.training.selected_acts import SelectedActs
from emocircuits.sae.training.sparse_decode import decode_selected, row_dots

# Sparse steps were faster from these on, one thread (measured: 1.2 of the dense time at batch · d_sae = 4
# thousand, 1.0 at 16 thousand, 0.8 at 64 thousand, 0.3 at a million; at d_sae / k = 2 it was 1.15, at 4 it
# was 0.9).
SPARSE_FROM, FEWEST_FEATURES_PER_K = 1 << 15, 4
DENSE_DEAD = 8  # up to this many dead features per selected one, their columns are multiplied densely


class _SparseStep:
    """The step. It stands before sae-lens' class in the order of inheritance."""

    def __init__(self, cfg: TopKTrainingSAEConfig, *, kernel: str = "auto", encoder_dtype: str = "float32"):
        super().__init__(cfg)  # ty: ignore[too-many-positional-arguments] - sae-lens' class comes next
        self.kernel, self.encoder_dtype = kernel, getattr(torch, encoder_dtype)
        self._hidden: Tensor | None = None
        # One feature's encoder weights lie together: gathered and updated like a row of the decoder.
        self.W_enc.data = self.W_enc.data.t().contiguous().t()

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """sae-lens' step; `feature_acts` is a `SelectedActs`, and the next step overwrites `hidden_pre`."""
        if not self._runs_sparse(step_input.sae_in):
            return super().training_forward_pass(step_input)
        sae_in = step_input.sae_in
        with torch.no_grad():
            x = sae_in - self.b_dec * self.cfg.apply_b_dec_to_input
            norms = self.W_dec.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else None
            hidden = self._pre_activations(x, norms)
            acts = self._select(hidden)
            if hidden.dtype != x.dtype:
                acts = self._exact(x, norms, acts)
            acts = _with(acts, acts.values.relu())
            inputs = acts if norms is None else _with(acts, acts.values * (1 / norms)[acts.features])
        sae_out = decode_selected(
            x, self.W_enc, self.b_enc, self.W_dec, self.b_dec, inputs, centred=self.cfg.apply_b_dec_to_input
        )
        mse_loss = self.mse_loss_fn(sae_out, sae_in).sum(dim=-1).mean()
        auxiliary = self._auxiliary_loss(step_input, x, hidden, norms, sae_out)
        output = TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            feature_acts=SelectedActs(acts),
            hidden_pre=hidden,
            loss=mse_loss + auxiliary,
            losses={"mse_loss": mse_loss, "auxiliary_reconstruction_loss": auxiliary},
        )
        self._note(acts, output)
        return output

    def _runs_sparse(self, sae_in: Tensor) -> bool:
        able = (
            sae_in.ndim == 2
            and sae_in.dtype == self.W_enc.dtype
            and sae_in.dtype in (torch.float32, torch.float64)
            and not sae_in.requires_grad
            and not torch.is_autocast_enabled(sae_in.device.type)
            and self.cfg.normalize_activations not in ("constant_norm_rescale", "layer_norm")
            and not any(point._forward_hooks or point._backward_hooks for point in self.hook_dict.values())
        )
        if self.kernel != "auto":
            return able and self.kernel == "sparse"
        work, d_sae = len(sae_in) * self.cfg.d_sae, self.cfg.d_sae
        return (
            able
            and sae_in.device.type == "cpu"
            and work >= SPARSE_FROM
            and d_sae >= FEWEST_FEATURES_PER_K * self.cfg.k
        )

    def _pre_activations(self, x: Tensor, norms: Tensor | None) -> Tensor:
        """(x W_enc + b_enc) · norms, in sae-lens' order of operations, in memory that is kept from step to
        step.
        """
        shape = (len(x), self.cfg.d_sae)
        if self.encoder_dtype == torch.bfloat16 and x.dtype == torch.float32:
            scale = 1.0 if norms is None else norms[:, None]
            bias = self.b_enc if norms is None else self.b_enc * norms
            return linear(x.bfloat16(), (self.W_enc.t() * scale).bfloat16(), bias.bfloat16())
        kept = self._hidden
        if kept is None or (kept.shape, kept.dtype, kept.device) != (shape, x.dtype, x.device):
            self._hidden = torch.empty(shape, dtype=x.dtype, device=x.device)
        torch.mm(x, self.W_enc.detach(), out=self._hidden).add_(self.b_enc.detach())
        return self._hidden if norms is None else self._hidden.mul_(norms)

    def _exact(self, x: Tensor, norms: Tensor | None, chosen: Selection) -> Selection:
        """Values of entries that were found in a coarser precision."""
        values = row_dots(x, self.W_enc.detach().t(), chosen) + self.b_enc.detach()[chosen.features]
        return _with(chosen, values if norms is None else values * norms[chosen.features])

    def _auxiliary_loss(
        self,
        step_input: TrainStepInput,
        x: Float[Tensor, "batch d_in"],
        hidden: Float[Tensor, "batch d_sae"],
        norms: Float[Tensor, "d_sae"] | None,
        sae_out: Float[Tensor, "batch d_in"],
    ) -> Tensor:
        """AuxK (Gao et al. 2024, appendix A.2): the most active dead features reconstruct what is
        left over.
        """
        mask = step_input.dead_neuron_mask
        if mask is None or (n_dead := int(mask.sum())) == 0:
            return sae_out.new_tensor(0.0)
        residual = (step_input.sae_in - sae_out).detach()
        scale = min(n_dead / (self.cfg.d_in // 2), 1.0)
        k_aux = min(self.cfg.d_in // 2, n_dead)
        dead = mask.nonzero().squeeze(1)
        if n_dead <= DENSE_DEAD * k_aux:
            recons = self._decode_dead(step_input.sae_in, dead, k_aux)
        else:
            with torch.no_grad():
                found = largest_per_row(hidden[:, dead], k_aux)
                chosen = Selection(found.values, dead[found.features], found.rows, (len(x), self.cfg.d_sae))
                if chosen.values.dtype != x.dtype:
                    chosen = self._exact(x, norms, chosen)
                if norms is not None:
                    chosen = _with(chosen, chosen.values * (1 / norms)[chosen.features])
            recons = decode_selected(
                x,
                self.W_enc,
                self.b_enc,
                self.W_dec,
                self.b_dec,
                chosen,
                add_bias=False,
                centred=self.cfg.apply_b_dec_to_input,
            )
        return self.cfg.aux_loss_coefficient * scale * (recons - residual).pow(2).sum(dim=-1).mean()

    def _decode_dead(self, sae_in: Tensor, dead: Tensor, k_aux: int) -> Tensor:
        encoder, decoder = self.W_enc.t().index_select(0, dead), self.W_dec.index_select(0, dead)
        acts = linear(
            sae_in - self.b_dec * self.cfg.apply_b_dec_to_input, encoder, self.b_enc.index_select(0, dead)
        )
        if k_aux < len(dead):
            with torch.no_grad():
                rank = acts * decoder.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else acts
                kept = torch.zeros_like(acts).scatter_(-1, torch.topk(rank, k_aux, sorted=False).indices, 1.0)
            acts = acts * kept
        return acts @ decoder

    def process_state_dict_for_saving_inference(self, state_dict: dict) -> None:
        """sae-lens' own, then every tensor in row order, as safetensors demands."""
        super().process_state_dict_for_saving_inference(state_dict)
        for name, value in state_dict.items():
            state_dict[name] = value.contiguous()

    def process_state_dict_for_saving(self, state_dict: dict) -> None:
        """sae-lens' own, then every tensor in row order, as safetensors demands."""
        super().process_state_dict_for_saving(state_dict)
        for name, value in state_dict.items():
            state_dict[name] = value.contiguous()


class SparseTopKTrainingSAE(_SparseStep, TopKTrainingSAE):
    """`TopKTrainingSAE` with sparse kernels.

    Args:
        cfg: sae-lens' configuration.
        kernel: `auto` (sparse where that is faster), `sparse` or `dense`.
        encoder_dtype: `bfloat16` looks for the active features in that precision; their activations stay
            exact.
    """

    def _select(self, hidden: Tensor) -> Selection:
        return largest_per_row(hidden, self.cfg.k)

    def _note(self, acts: Selection, output: TrainStepOutput) -> None:
        pass


class SparseBatchTopKTrainingSAE(_SparseStep, BatchTopKTrainingSAE):
    """`BatchTopKTrainingSAE` with sparse kernels; arguments as for `SparseTopKTrainingSAE`."""

    cfg: BatchTopKTrainingSAEConfig
    together = False
    _edge = 0.0

    def _runs_sparse(self, sae_in: Tensor) -> bool:
        # sae-lens' own path knows nothing of the other ranks' parts of a batch
        return super()._runs_sparse(sae_in) or self.together

    def _select(self, hidden: Tensor) -> Selection:
        count, guess = int(self.cfg.k * len(hidden)), 0.9 * self._edge
        if self.together:
            count = int(self.cfg.k * len(hidden) * ranks().size)
            mine = largest_of_batch(hidden, count, guess)[0].values
            count, self._edge = share_of(mine.sort(descending=True).values, count)
            return largest_of_batch(hidden, count, guess)[0]
        chosen, self._edge = largest_of_batch(hidden, count, guess)
        return chosen

    def _note(self, acts: Selection, output: TrainStepOutput) -> None:
        values = acts.values
        if self.together:
            values = least_of_all(values[values > 0])
            values = values[values.isfinite()]
        self.update_topk_threshold(values)
        output.metrics["topk_threshold"] = self.topk_threshold


def _with(chosen: Selection, values: Tensor) -> Selection:
    """The same entries with other values; what was derived from the places is kept."""
    other = Selection(values, chosen.features, chosen.rows, chosen.shape)
    places = ("row_starts", "feature_starts", "by_feature")
    other.__dict__.update({name: chosen.__dict__[name] for name in places if name in chosen.__dict__})
    return other
