"""What a config.json may say: names that the family's code acts on, and names without effect here.

Hugging Face keeps a name it does not know and continues as if it were not there. Where the name is one that
some model computes with, the activations would then be another model's: it is refused. Any other name that no
one here knows is told.
"""

import warnings
from pathlib import Path
from typing import Any

from emocircuits.errors import UserError
from emocircuits.models.family import FAMILIES, FamilyCard

SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "rope_theta",
    "rope_scaling",
    "attention_bias",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "model_type",
)
# labels, generation and training: nothing of this reaches a forward pass in evaluation mode
WITHOUT_EFFECT = (
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "initializer_range",
    "attention_dropout",
    "id2label",
    "label2id",
    "problem_type",
    "task_specific_params",
    "_name_or_path",
    "finetuning_task",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "unk_token_id",
    "sep_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "tokenizer_class",
    "prefix",
    "temperature",
    "top_k",
    "top_p",
    "do_sample",
    "max_length",
    "min_length",
    "num_beams",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "length_penalty",
    "_attn_implementation",
    "attn_implementation",
    "is_decoder",
    "gradient_checkpointing",
    "unsloth_version",
    "unsloth_fixed",
    "_commit_hash",
    "emocircuits",
    "pretraining_tp",
    "_model_name_or_path",
    "is_llama_config",
    "transformers.js_config",
    "max_sequence_length",
    "auto_map",
)
# names that some model computes with, besides those on the cards of the families
COMPUTED_WITH = {
    "quantization_config",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "clip_qkv",
    "layer_types",
    "qk_norm",
    "use_qk_norm",
    "qk_layernorm",
    "alibi",
    "use_alibi",
    "parallel_attn",
    "parallel_residual",
    "partial_rotary_factor",
    "rope_interleaved",
    "rope_local_base_freq",
    "no_rope_layers",
    "logit_scale",
    "logits_scaling",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "scale_emb",
    "scale_depth",
    "scale_embedding",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "attn_config",
    "ffn_config",
    "position_embedding_type",
    "qkv_bias",
    "use_bias",
    "norm_after",
    "post_norm",
    "use_post_norm",
    "layer_norm_type",
}


def check_config(config: dict[str, Any], card: FamilyCard, directory: Path) -> tuple[str, ...]:
    """Refuses a configuration with settings that some model computes with and that the family's code would
    ignore, or that nothing here was tested with. Warns of other names that no one here knows.

    Args:
        config: contents of config.json.
        card: the family.
        directory: where it lies, for the message.

    Returns:
        The names that were warned of.

    Raises:
        UserError: a name that is not on the family's list, with a value that is neither absent nor the
            default, and that changes what is computed.
    """
    from transformers import AutoConfig

    defaults = AutoConfig.for_model(card.model_type).to_dict()
    allowed = {*SHARED, *WITHOUT_EFFECT, *card.config}
    computed_with = COMPUTED_WITH.union(*(other.config for other in FAMILIES))
    unknown: list[str] = []
    for name, value in config.items():
        if name in allowed or value is None or (name in defaults and value == defaults[name]):
            continue
        if name not in defaults and (value is False or value in ([], {})):
            continue
        known = name in defaults
        if not known and name not in computed_with:
            unknown.append(name)
            continue
        raise UserError(
            f"{directory / 'config.json'} sets {name} = {_short(value)}"
            + (
                f", and the family {card.name} is tested with {_short(defaults[name])} only"
                if known
                else f", which the family {card.name} does not know and would ignore"
            ),
            expected="settings among "
            f"{', '.join(sorted({*card.config, 'rope_parameters', 'hidden_act'})[:12])}, …",
            cure="take this name out if the model does not depend on it, or use a model without it",
        )
    if unknown:
        warnings.warn(
            f"{directory / 'config.json'} sets {', '.join(unknown)}, which nothing here knows: ignored, as "
            "Hugging Face does",
            stacklevel=2,
        )
    return tuple(unknown)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
