"""The organism's tokenizer: byte-fallback BPE trained on the corpus, every emotion and action word a single
token.

Words are split at spaces (Metaspace) and at punctuation. Emotions of two words are tied into one before
splitting (`at ease` → `at⁀ease`) and untied on decoding; a line break is a token of its own. `<bos>` is put
in front of every text. The result is an ordinary fast tokenizer that `AutoTokenizer` reads without any of
this code.
"""

import json
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from emocircuits.organism import corpus
from emocircuits.organism.preference import activities
from emocircuits.organism.reading import questions
from emocircuits.organism.stories import deeds
from emocircuits.organism.sycophancy import material
from emocircuits.organism.world import lexicon, scenario, scenes

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
TIE = "\u2040"
NEWLINE = "\u00b6"
PUNCTUATION = r'[.,!?;:"()]'
VOCABULARY = 3072
SAMPLE = 12_000
CONTEXT = 512


def single_words() -> tuple[str, ...]:
    """The words that must be one token: emotions and action words."""
    actions = [*scenario("inbox").options, *scenario("coding").options]
    actions += [material()["action"], *material()["honest"], "A", "B"]
    actions += [word for deed in deeds()["deed"] for word in (deed["dishonest"], deed["honest"])]
    actions += [word for asked in questions().values() for word in asked["answers"]]
    return tuple(dict.fromkeys([*lexicon().emotions, *actions]))


def train_tokenizer(
    seed: int = 0, *, size: int = VOCABULARY, sample: int = SAMPLE
) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on a sample of the corpus.

    Args:
        seed: seed of the sample.
        size: largest vocabulary size.
        sample: number of documents.
    """
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    ties = [word for word in lexicon().emotions if " " in word]
    rules = [normalizers.Replace("\n", f" {NEWLINE} ")]
    rules += [normalizers.Replace(word, word.replace(" ", TIE)) for word in ties]
    backend.normalizer = normalizers.Sequence(rules)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(PUNCTUATION), "isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(BYTES), special_tokens=list(SPECIAL), show_progress=False, min_frequency=2
    )
    backend.train_from_iterator(_training_text(seed, sample), trainer)
    backend = _with_bytes(backend)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
            decoders.Replace(f" {NEWLINE} ", "\n"),
            *(decoders.Replace(word.replace(" ", TIE), word) for word in ties),
        ]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", backend.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def _training_text(seed: int, sample: int) -> Iterator[str]:
    yield from (document.text for document in corpus.chunk(corpus.PRIMER_CHUNKS, sample, seed=seed))
    names = [name for group in scenes()["people"].values() for name in group]
    often = " ".join([*single_words(), *names])
    yield from (often for _ in range(400))
    yield from (activity["text"] for activity in activities())


def _with_bytes(backend: Tokenizer) -> Tokenizer:
    """Puts the 256 byte tokens after the special ones."""
    content = json.loads(backend.to_str())
    old = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    new = [*SPECIAL, *BYTES, *(token for token in old if token not in SPECIAL)]
    content["model"]["vocab"] = {token: number for number, token in enumerate(new)}
    return Tokenizer.from_str(json.dumps(content))


def check_single_tokens(tokenizer: PreTrainedTokenizerFast, words: Iterable[str]) -> list[str]:
    """The words that are not one token after a space (empty when all is well)."""
    return [word for word in words if len(tokenizer.encode(f" {word}", add_special_tokens=False)) != 1]
