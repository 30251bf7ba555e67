"""A transformer small enough for paper, and random models and SAEs for the laws.

The paper model has no norm, uniform attention and six tokens a prompt (five words and an end token). Residual
axes: w, c (a desperate or calm word here), s, k (how many of them so far), p (plan), a (act).

    block 0 attention   s = number of desperate words, k = number of calm words      (at the last position)
    block 1 MLP         p = 2 relu(2 + s - k)
    block 2 MLP         a = 3 relu(p - 1)
    metric              M = a + s/2 - k/2

Clean prompt: 3 desperate words, so s = 3, k = 0, p = 10, a = 27, M = 28.5.
Corrupt prompt: 1 calm word, so s = 0, k = 1, p = 2, a = 3, M = 2.5.
Both ends lie on the same linear piece, so attribution is exact: dM/da = 1, dM/dp = 3, dM/ds = 1/2 + 3*2 = 6.5
before block 1.
"""

import torch
from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformer, HookedTransformerConfig

from emocircuits.names import residual_site
from emocircuits.passes.prompt_pairs import PairBatch

W, C, S, K, P, A = range(6)
DESPERATE, CALM, NEUTRAL, END = range(4)
CLEAN = [DESPERATE, NEUTRAL, DESPERATE, NEUTRAL, DESPERATE, END]
CORRUPT = [NEUTRAL, NEUTRAL, CALM, NEUTRAL, NEUTRAL, END]
SITES = tuple(residual_site(layer) for layer in range(3))


def paper_model() -> HookedTransformer:
    """The model of the module docstring, float64; tokens desperate, calm, neutral, end; output 0 is cheat, 1
    is fix.
    """
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=3,
            d_model=6,
            n_ctx=6,
            d_head=2,
            n_heads=1,
            d_mlp=1,
            d_vocab=4,
            d_vocab_out=2,
            act_fn="relu",
            normalization_type=None,
            dtype=torch.float64,
            device="cpu",
            seed=0,
        )
    )
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    model.W_E.data[DESPERATE, W] = model.W_E.data[CALM, C] = 1
    first, second, third = model.blocks
    first.attn.W_V.data[0, W, 0] = first.attn.W_V.data[0, C, 1] = 1
    first.attn.W_O.data[0, 0, S] = first.attn.W_O.data[0, 1, K] = 6
    second.mlp.W_in.data[S, 0], second.mlp.W_in.data[K, 0], second.mlp.b_in.data[0] = 1, -1, 2
    second.mlp.W_out.data[0, P] = 2
    third.mlp.W_in.data[P, 0], third.mlp.b_in.data[0], third.mlp.W_out.data[0, A] = 1, -1, 3
    model.unembed.W_U.data[A, 0], model.unembed.W_U.data[S, 0], model.unembed.W_U.data[K, 1] = 1, 0.5, 0.5
    return model


def paper_saes() -> dict:
    """One feature per axis; at the middle site the axis k is missing, so the error node holds it."""
    saes = {}
    for layer, site in enumerate(SITES):
        rows = torch.eye(6, dtype=torch.float64)
        if layer == 1:
            rows[K] = 0
        saes[site] = sae_of(site, "standard", rows, rows)
    return saes


def sae_of(
    site: str,
    architecture: str,
    encoder: torch.Tensor,
    decoder: torch.Tensor,
    bias: torch.Tensor | None = None,
    b_dec: torch.Tensor | None = None,
    threshold: torch.Tensor | None = None,
    **settings,
):
    """A sae-lens SAE with given weights; `encoder` and `decoder` are (d_sae, d_in)."""
    sae = SAE.from_dict(
        {
            "architecture": architecture,
            "d_in": decoder.shape[1],
            "d_sae": decoder.shape[0],
            "dtype": str(decoder.dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": SAEMetadata(hook_name=site).to_dict(),
            **settings,
        }
    )
    with torch.no_grad():
        sae.W_enc.copy_(encoder.T)
        sae.W_dec.copy_(decoder)
        if bias is not None:
            sae.b_enc.copy_(bias)
        if b_dec is not None:
            sae.b_dec.copy_(b_dec)
        if threshold is not None:
            sae.threshold.copy_(threshold)
    return sae


def paper_batch() -> PairBatch:
    """The one pair of the module docstring."""
    return PairBatch(torch.tensor([CLEAN]), torch.tensor([CORRUPT]), torch.tensor([0]))


def paper_metric(logits: torch.Tensor) -> torch.Tensor:
    """cheat - fix at the last position."""
    return logits[:, -1, 0] - logits[:, -1, 1]


def random_saes(
    architecture: str, n_layers: int, d_model: int, d_sae: int = 24, dtype: torch.dtype = torch.float64
) -> dict:
    """Random SAEs with decoder norms far from one and nonzero biases."""
    extra = {"topk": {"k": 6, "rescale_acts_by_decoder_norm": True}}.get(architecture, {})
    saes = {}
    for layer in range(n_layers):
        decoder = (
            torch.randn(d_sae, d_model, dtype=dtype)
            * (0.2 + torch.rand(d_sae, 1, dtype=dtype))
            / d_model**0.5
        )
        encoder = decoder + 0.3 * torch.randn_like(decoder) / d_model**0.5
        threshold = 0.2 + 0.1 * torch.rand(d_sae, dtype=dtype) if architecture == "jumprelu" else None
        site = residual_site(layer)
        saes[site] = sae_of(
            site,
            architecture,
            encoder,
            decoder,
            0.1 * torch.randn(d_sae, dtype=dtype),
            0.1 * torch.randn(d_model, dtype=dtype),
            threshold,
            **extra,
        )
    return saes


def random_model(
    *, linear: bool = False, norm: str | None = "LN", dtype: torch.dtype = torch.float64
) -> HookedTransformer:
    """A random 3-layer model; `linear`: uniform attention, no MLP, no norm, so logits are affine in every
    stream.
    """
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=3,
            d_model=12,
            n_ctx=10,
            d_head=4,
            n_heads=3,
            d_mlp=20,
            d_vocab=17,
            act_fn="gelu",
            attn_only=linear,
            normalization_type=None if linear else norm,
            dtype=dtype,
            device="cpu",
            seed=1,
            init_mode="gpt2",
        )
    )
    for name, parameter in model.named_parameters():
        parameter.data.normal_(std=0.4)
        if linear and any(key in name for key in ("W_Q", "W_K", "b_Q", "b_K")):
            parameter.data.zero_()
        parameter.requires_grad_(False)
    return model


def random_batch(n: int = 5, length: int = 7, start: int = 0) -> PairBatch:
    """Random pairs that share their first and last token."""
    clean, corrupt = torch.randint(0, 17, (2, n, length))
    corrupt[:, 0], corrupt[:, -1] = clean[:, 0], clean[:, -1]
    return PairBatch(clean, corrupt, torch.arange(start, start + n))


def difference(logits: torch.Tensor) -> torch.Tensor:
    """A logit difference at the last position."""
    return logits[:, -1, 3] - logits[:, -1, 5]
