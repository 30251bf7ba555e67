"""Loading: a name becomes a frozen, checked language model in TransformerLens' bridge."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from emocircuits.errors import Failure, UserError, unknown
from emocircuits.models.checks import REPEATS, PlainLogits, probe_tokens, run_checks
from emocircuits.models.config import check_config
from emocircuits.models.family import FAMILIES, FamilyCard
from emocircuits.models.files import (
    check_directory,
    check_weights,
    find_directory,
    language_config,
    model_files_hash,
    weight_files,
)
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.quiet import quiet_libraries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
# where the tensors of a language model lie in the files of a model of texts and images
INSIDE = {
    r"^language_model\.model\.": "model.",
    r"^model\.(language|text)_model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}


def load_model(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    revision: str | None = None,
    device_map: str | None = None,
    checks: bool = True,
) -> LanguageModel:
    """Loads a model by name.

    The Hugging Face model is made first (eager attention, safetensors only) and handed to the bridge: raw
    weights, nothing folded, so that residual streams are the model's own. Of a model of texts and images its
    language model is loaded alone, where that is of a family here.

    Args:
        name: `organism`, `planted`, a directory, or a Hugging Face id.
        device: torch device.
        dtype: float32, bfloat16 or float64.
        trust_remote_code: allow the model's own Python code.
        revision: revision of a Hugging Face id (branch, tag or commit; the commit is recorded).
        device_map: how accelerate spreads the layers over devices ("auto", "balanced", …); None puts all on
            `device`.
        checks: run the load-time checks (a fraction of a second on small models).

    Raises:
        UserError: unknown name, missing or unsafe files, NaN weights, unknown family, dtype or device, or a
            configuration with settings that the family does not know.
        Failure: a load-time check does not hold (the message names it), or memory does not suffice.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    directory = find_directory(name, revision=revision, code=trust_remote_code)
    config = check_directory(directory, trust_remote_code=trust_remote_code)
    cards = {card.model_type: card for card in FAMILIES} | {card.name: card for card in FAMILIES}
    language = language_config(config)
    inside = None if language is config else cards[language["model_type"]]
    if not config.get("auto_map"):  # code of its own may act on whatever names it likes
        check_config(language, cards[language["model_type"]], directory)
    files = weight_files(directory)
    check_weights(files)
    with quiet_libraries():
        tokenizer = _tokenizer(directory, trust_remote_code)
        hf_model = _hf_model(directory, device, DTYPES[dtype], trust_remote_code, device_map, inside)
        card = card_of(hf_model)
        chats = getattr(tokenizer, "chat_template", None) is not None
        if card.bos == "prepend" and tokenizer.bos_token_id is None and not chats:
            raise UserError(
                f"the tokenizer in {directory} has no BOS token",
                expected=f"one, as the family {card.name} is trained with",
            )
        hf_model.config.architectures = [card.architecture]
        tokens = probe_tokens(hf_model.config.vocab_size, str(hf_model.device))
        # the bridge adds zero biases of its own
        n_params = sum(parameter.numel() for parameter in hf_model.parameters())
        reference = PlainLogits.of(hf_model, tokens)
        # the bridge changes its tokenizer and reloads it from the directory
        handed = copy.deepcopy(tokenizer)
        if trust_remote_code:
            handed.init_kwargs["trust_remote_code"] = True
        bridge = TransformerBridge.boot_transformers(
            str(directory),
            hf_model=hf_model,
            tokenizer=handed,
            device=None if device_map else device,
            dtype=DTYPES[dtype],
            trust_remote_code=trust_remote_code,
        )
    bridge.eval()
    for parameter in bridge.original_model.parameters():
        parameter.requires_grad_(False)
    model = LanguageModel(
        bridge=bridge,
        tokenizer=tokenizer,
        name=name,
        content_hash=model_files_hash(directory),
        card=card,
        checks=(),
        directory=str(directory),
        n_params=n_params,
    )
    if not checks:
        return model
    results = run_checks(model, tokens, reference)
    broken = [check for check in results if not check.passed]
    if broken:
        raise Failure(
            f"the model '{name}' fails the check '{broken[0].name}': {broken[0].detail} (measured "
            f"{broken[0].value:.3g})",
            cure="its own code is at fault: get its files again, or load it in float32"
            if broken[0].name == REPEATS
            else "its activations cannot be trusted through this version of TransformerLens",
        )
    return replace(model, checks=results)


def card_of(hf_model: Any) -> FamilyCard:
    """The family of a Hugging Face model: that of its class or of the class it is derived from.

    Raises:
        UserError: no card for it; the message lists the known architectures.
    """
    by_architecture = {card.architecture: card for card in FAMILIES}
    for base in type(hf_model).__mro__:
        if base.__name__ in by_architecture:
            return by_architecture[base.__name__]
    raise UserError(
        f"the model architecture {type(hf_model).__name__} is not known here",
        expected=f"one of {', '.join(sorted(by_architecture))}",
        cure="add a card for it (docs/extending.md) where TransformerLens has an adapter",
    )


def _tokenizer(directory: Path, trust_remote_code: bool) -> Any:
    try:
        if (directory / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(
                directory, local_files_only=True, trust_remote_code=trust_remote_code
            )
        return AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # the tokenizer libraries raise bare Exceptions
        raise UserError(
            f"cannot read the tokenizer in {directory} ({error})", cure="get tokenizer.json again"
        ) from error


def _language_model_in(directory: Path, card: FamilyCard) -> dict[str, Any]:
    """How to read only the language model of a model of texts and images."""
    whole = AutoConfig.from_pretrained(directory, local_files_only=True)
    config = whole.text_config
    check_config(config.to_dict(), card, directory)  # the whole may set more: PaliGemma's attends both ways
    # the outer setting counts in the whole, where there is one
    config.tie_word_embeddings = getattr(whole, "tie_word_embeddings", config.tie_word_embeddings)
    return {"config": config, "key_mapping": INSIDE}


def _hf_model(
    directory: Path,
    device: str,
    dtype: torch.dtype,
    trust_remote_code: bool,
    device_map: str | None,
    inside: FamilyCard | None,
) -> Any:
    spread = {"device_map": device_map} if device_map else {}
    try:
        part = _language_model_in(directory, inside) if inside else {}
        model, info = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **spread,
            **part,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(directory) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"cannot build the model in {directory} ({error})", expected="weights that fit its config.json"
        ) from error
    for what in ("missing_keys", "mismatched_keys"):
        if info.get(what):
            raise UserError(
                f"the weights in {directory} do not fit config.json: {what.replace('_', ' ')} "
                f"{sorted(map(str, info[what]))[0]}",
                cure="get the weights again",
            )
    if device_map:
        return model.eval()
    try:
        return model.eval().to(device)
    except torch.OutOfMemoryError as error:
        raise _too_large(directory) from error
    except RuntimeError as error:
        raise UserError(
            f"the device '{device}' cannot be used ({error})", expected="cpu, cuda or mps as torch knows them"
        ) from error


def _too_large(directory: Path) -> Failure:
    size = sum(path.stat().st_size for path in weight_files(directory)) / 2**30
    return Failure(
        f"out of memory while loading the model in {directory} ({size:.1f} GiB of weights)",
        cure="load it with --dtype bfloat16, spread it with --device-map auto, or take a larger device",
    )
