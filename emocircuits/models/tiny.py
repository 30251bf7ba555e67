"""Random models of any family, small enough to make on the spot: for tests and for looking at the
code run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from emocircuits.models.family import FAMILIES
from emocircuits.models.quiet import quiet_libraries

SAMPLE = (
    "The doctor read the letter again and felt calm.",
    "She ran home in the rain, desperate to hide the truth.",
    "The tests failed and he decided to cheat or to ask for help.",
)


@dataclass(frozen=True)
class TinyShape:
    """How small: blocks, width of the stream, heads and longest context."""

    n_layers: int = 3
    d_model: int = 32
    n_heads: int = 4
    n_ctx: int = 128


def write_tiny_model(
    family: str,
    directory: str | Path,
    shape: TinyShape = TinyShape(),
    *,
    texts: Iterable[str] = SAMPLE,
    words: Iterable[str] = (),
    vocabulary: int = 400,
    seed: int = 0,
) -> Path:
    """Writes a random model of a family with a tokenizer trained on `texts` (a Hugging Face directory).

    Args:
        family: name of a card.
        directory: where to write; made when missing.
        shape: its sizes.
        texts: what the byte-level BPE tokenizer is trained on.
        words: words that become single tokens with their leading space.
        vocabulary: largest size of the tokenizer's vocabulary, before `words`.
        seed: seed of the weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    card, directory = FAMILIES.get(family), Path(directory)
    with quiet_libraries():
        tokenizer = _tokenizer(texts, words, vocabulary)
        settings = {
            "vocab_size": len(tokenizer),
            "hidden_size": shape.d_model,
            "num_hidden_layers": shape.n_layers,
            "num_attention_heads": shape.n_heads,
            "intermediate_size": 2 * shape.d_model,
            "max_position_embeddings": shape.n_ctx,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
            **card.tiny,
        }
        config = AutoConfig.for_model(card.model_type, **settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 2:  # larger than the usual 0.02, so that the layers do something
                        parameter.mul_(5.0)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return directory


def _tokenizer(texts: Iterable[str], words: Iterable[str], vocabulary: int):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<bos>", "<eos>", "<pad>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(list(texts), trainer)
    made.add_tokens([AddedToken(f" {word}", normalized=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
