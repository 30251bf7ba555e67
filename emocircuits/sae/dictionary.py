"""The affine view of a sae-lens SAE: effective encoder and decoder matrices, whatever folding or rescaling it
uses.

    preactivation = x @ encoder + encoder_bias        x_hat = f @ decoder + decoder_bias

A `topk` SAE with `rescale_acts_by_decoder_norm` stores unit-free weights and multiplies by the decoder norms
at run time; here those norms are already inside `encoder` and `decoder`, so `f[i] * decoder[i]` is what
feature i writes into the stream. Of matching pursuit, whose later steps see what the earlier ones left, the
preactivation is that of the first step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch.nn.functional import embedding_bag

from emocircuits.errors import UserError
from emocircuits.names import layer_of
from emocircuits.sae.selection import Selection, largest_per_row, stacked

AFFINE = (
    "standard",
    "topk",
    "abstopk",
    "jumprelu",
    "gated",
    "batchtopk",
    "matryoshka_batchtopk",
    "matching_pursuit",
)
GATES = ("standard", "topk", "jumprelu", "batchtopk", "matryoshka_batchtopk")

CACHED_VALUES = 1 << 19
"""Pre-activations that are computed and searched at a time: so many stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An SAE at a site, as affine maps around its nonlinearity.

    Attributes:
        site: hook name.
        encoder: d preactivation / d x.
        encoder_bias: preactivation at x = 0.
        decoder: what one unit of each feature writes.
        decoder_bias: the reconstruction when nothing is active.
        sae: the sae-lens object that owns the nonlinearity; None where there are no features.
    """

    site: str
    encoder: Float[torch.Tensor, "d_in d_sae"]
    encoder_bias: Float[torch.Tensor, "d_sae"]
    decoder: Float[torch.Tensor, "d_sae d_in"]
    decoder_bias: Float[torch.Tensor, "d_in"]
    sae: Any

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.decoder.shape[0]

    @property
    def d_in(self) -> int:
        """Width of the site."""
        return self.decoder.shape[1]

    @property
    def top_k(self) -> int | None:
        """Number of active features of a TopK SAE; None for other kinds."""
        settings = getattr(self.sae, "cfg", None)  # a random dictionary has its nonlinearity and no settings
        return settings.k if settings is not None and settings.architecture() == "topk" else None

    @property
    def gates(self) -> bool:
        """Whether an activation is the preactivation or 0."""
        settings = getattr(self.sae, "cfg", None)
        return settings is not None and settings.architecture() in GATES

    @torch.no_grad()
    def select(self, x: Float[torch.Tensor, "row d_in"]) -> Selection:
        """Of a TopK SAE, the selected features of every row before the ReLU: the same as `encode` without a
        dense matrix.
        """
        size = max(1, CACHED_VALUES // self.d_sae) if x.device.type == "cpu" else max(1, len(x))
        parts = [
            largest_per_row(torch.addmm(self.encoder_bias, part, self.encoder), self.top_k)
            for part in x.split(size)
        ]
        return stacked(parts)

    @torch.no_grad()
    def encode(self, x: Float[torch.Tensor, "*batch d_in"]) -> Float[torch.Tensor, "*batch d_sae"]:
        """Feature activations (dense, no gradient)."""
        if self.sae is None:
            return x.detach().to(self.decoder.dtype) @ self.encoder
        if self.top_k is not None:
            chosen = self.select(x.detach().to(self.decoder.dtype).reshape(-1, self.d_in))
            dense = chosen.values.new_zeros(chosen.shape)
            dense[chosen.rows, chosen.features] = chosen.values.relu()
            return dense.view(*x.shape[:-1], self.d_sae)
        features = self.sae.encode(x.detach().to(self.decoder.dtype))
        return features.to_dense() if features.is_sparse else features

    def encode_with_gradient(
        self, x: Float[torch.Tensor, "*batch d_in"]
    ) -> Float[torch.Tensor, "*batch d_sae"]:
        """Feature activations (dense) through which gradients reach `x`."""
        x = x.to(self.decoder.dtype)
        if self.sae is None:
            return x @ self.encoder
        if self.top_k is None:
            features = self.sae.encode(x)
            return features.to_dense() if features.is_sparse else features
        hidden = self.preactivation(x)
        chosen = largest_per_row(hidden.detach().reshape(-1, self.d_sae), self.top_k)
        fires = torch.zeros(chosen.shape, dtype=torch.bool, device=x.device)
        fires[chosen.rows, chosen.features] = chosen.values > 0
        return hidden * fires.view(hidden.shape)

    @torch.no_grad()
    def active(self, x: Float[torch.Tensor, "row d_in"]) -> Selection:
        """What is not 0 in `encode`; of a TopK SAE only the selected entries are ever looked at."""
        x = x.detach().to(self.decoder)
        if self.top_k is not None:
            chosen = self.select(x)
            fires = chosen.values > 0
            if bool(fires.all()):
                return chosen
            values, features, rows = (part[fires] for part in (chosen.values, chosen.features, chosen.rows))
        else:
            dense = self.encode(x)
            rows, features = dense.nonzero(as_tuple=True)
            values = dense[rows, features]
        return Selection(values, features, rows, (len(x), self.d_sae))

    @torch.no_grad()
    def decode_active(self, chosen: Selection) -> Float[torch.Tensor, "row d_in"]:
        """The reconstruction from active features: a weighted sum of their decoder rows."""
        return self.decoder_bias + embedding_bag(
            chosen.features, self.decoder, chosen.row_starts, mode="sum", per_sample_weights=chosen.values
        )

    def decode(self, features: Float[torch.Tensor, "*batch d_sae"]) -> Float[torch.Tensor, "*batch d_in"]:
        """Reconstruction; gradients reach the features and never the SAE's weights."""
        return features @ self.decoder + self.decoder_bias

    def written(self, features: Float[torch.Tensor, "*batch d_sae"]) -> Float[torch.Tensor, "*batch d_in"]:
        """What activations, or changes of them, write into the stream: the reconstruction without its
        bias.
        """
        return features @ self.decoder

    def preactivation(self, x: Float[torch.Tensor, "*batch d_in"]) -> Float[torch.Tensor, "*batch d_sae"]:
        """What enters the nonlinearity, in the units of the feature activations."""
        return x.to(self.encoder.dtype) @ self.encoder + self.encoder_bias


def open_dictionaries(saes: Mapping[str, Any], d_model: int | None = None) -> dict[str, Dictionary]:
    """Dictionaries in the order of their layers.

    Args:
        saes: site -> inference SAE of sae-lens.
        d_model: width of the model, where known.

    Raises:
        UserError: no SAE, two SAEs at one layer, an SAE that reads another site, has another width, or is not
            affine around its nonlinearity.
    """
    if not saes:
        raise UserError("no SAE was given", expected="a mapping from site to SAE")
    return {site: _open(site, saes[site], d_model) for site in sorted(saes, key=_depth)}


def whole_stream(site: str, d_model: int, dtype: torch.dtype = torch.float32) -> Dictionary:
    """A dictionary without features: the error node of the site is its whole stream."""
    return Dictionary(
        site,
        torch.zeros(d_model, 0, dtype=dtype),
        torch.zeros(0, dtype=dtype),
        torch.zeros(0, d_model, dtype=dtype),
        torch.zeros(d_model, dtype=dtype),
        None,
    )


def _depth(site: str) -> tuple[int, int]:
    order = ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post")
    return layer_of(site), order.index(site.rsplit(".", 1)[1])


@torch.no_grad()
def _open(site: str, sae: Any, d_model: int | None) -> Dictionary:
    if isinstance(sae, Dictionary):
        return sae
    config = sae.cfg
    architecture = config.architecture()
    if architecture not in AFFINE:
        raise UserError(f"the SAE at {site} has architecture '{architecture}'", expected=", ".join(AFFINE))
    if config.normalize_activations not in ("none", "expected_average_only_in"):
        raise UserError(
            f"the SAE at {site} normalises its input per token ('{config.normalize_activations}')",
            expected="a fixed scale",
            cure="fold the normalisation into its weights first",
        )
    if config.reshape_activations != "none":
        raise UserError(
            f"the SAE at {site} reads reshaped activations ('{config.reshape_activations}')",
            expected="an SAE on the residual stream",
        )
    read = config.metadata.hook_name
    if read is not None and read != site:
        raise UserError(f"the SAE given for {site} was trained on {read}", cure="give it under its own site")
    if d_model is not None and config.d_in != d_model:
        raise UserError(
            f"the SAE at {site} has d_in {config.d_in}", expected=f"the model's d_model {d_model}"
        )
    encoder, decoder = sae.W_enc.detach(), sae.W_dec.detach()
    if architecture == "gated":
        encoder, bias = encoder * sae.r_mag.detach().exp(), sae.b_mag.detach()
    elif architecture == "matching_pursuit":
        bias = encoder.new_zeros(encoder.shape[1])
    else:
        bias = sae.b_enc.detach()
    if config.apply_b_dec_to_input:
        bias = bias - sae.b_dec.detach() @ encoder
    if getattr(config, "rescale_acts_by_decoder_norm", False):
        norms = decoder.norm(dim=-1)
        if not bool((norms > 0).all()):
            raise UserError(f"the SAE at {site} has a feature with a zero decoder row")
        encoder, bias, decoder = encoder * norms, bias * norms, decoder / norms[:, None]
    opened = Dictionary(site, encoder, bias, decoder, sae.b_dec.detach(), sae)
    probe = torch.linspace(-1, 1, opened.d_in, dtype=decoder.dtype, device=decoder.device)[None]
    features = opened.encode(probe)
    if not torch.allclose(sae.decode(features), opened.decode(features), rtol=1e-3, atol=1e-4):
        raise UserError(
            f"the SAE at {site} ({architecture}) does not decode by its W_dec and b_dec",
            cure="fold its normalisation into its weights first",
        )
    if opened.top_k is not None and not torch.allclose(
        features, sae.encode(probe).to_dense(), rtol=1e-3, atol=1e-4
    ):
        raise UserError(
            f"the SAE at {site} ({architecture}) does not encode by its W_enc and b_enc",
            cure="fold its normalisation into its weights first",
        )
    return opened
