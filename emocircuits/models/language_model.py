"""A loaded language model: the TransformerLens bridge, its tokenizer, and what was checked when it was
loaded.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformer_lens.model_bridge import TransformerBridge

from emocircuits.errors import UserError
from emocircuits.models.family import FamilyCard

UNREADABLE = "\ufffd"  # what bytes that are no whole character are decoded to
MOST_BYTES = 4  # of a character


class ChatText(str):
    """A text as a chat template wrote it: control tokens that it names are tokens, and nothing is put before
    it. Any other text is text throughout, whatever it names.
    """

    def __add__(self, other: str) -> "ChatText":
        return ChatText(str(self) + other)


def check_context(length: int, context: int, more: int = 0) -> None:
    """Raises UserError where a prompt of so many tokens, and more to write, do not fit into a context."""
    if length + more > context:
        raise UserError(
            f"a prompt of {length} tokens" + (f" and {more} to write" if more else ""),
            expected=f"at most the context of {context}",
            cure="shorten it" if not more else "shorten the prompt or write fewer tokens",
        )


@dataclass(frozen=True)
class Check:
    """One load-time check.

    Attributes:
        name: what was checked.
        passed: whether it held.
        value: the measured number (0 is perfect for differences).
        detail: in words.
    """

    name: str
    passed: bool
    value: float | int
    detail: str = ""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A frozen model ready for hooks.

    Attributes:
        bridge: the model; parameters need no gradient, evaluation mode.
        tokenizer: its Hugging Face tokenizer.
        name: the name it was asked for.
        content_hash: SHA-256 over the contents of its configuration, weights and tokenizer files.
        card: the family it belongs to.
        checks: the load-time checks, all passed.
        directory: where its files lie.
        n_params: number of parameters, tied ones counted once.
        layers: the blocks whose streams are looked at; () means all.
    """

    bridge: TransformerBridge
    tokenizer: Any
    name: str
    content_hash: str
    card: FamilyCard
    checks: tuple[Check, ...]
    directory: str
    n_params: int
    layers: tuple[int, ...] = ()

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.bridge.cfg.n_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.bridge.cfg.d_model)

    @property
    def d_vocab(self) -> int:
        """Number of logits."""
        return int(self.bridge.cfg.d_vocab)

    @property
    def n_ctx(self) -> int:
        """Longest input in tokens."""
        return int(self.bridge.cfg.n_ctx)

    @property
    def sites(self) -> tuple[str, ...]:
        """The residual stream after every block that is looked at."""
        every = self.card.residual_sites(self.n_layers)
        return tuple(every[layer] for layer in self.layers) if self.layers else every

    @property
    def bos_id(self) -> int | None:
        """The token put in front of plain text, or None.

        What the tokenizer does by itself, or else what its files say (`add_bos_token`). Where it does and
        says nothing: none before the text of a model that is tuned on chats, whose template writes what is
        needed, and else what the family's base models are trained with.
        """
        begins = self._begins_texts
        if begins is None:
            tuned_on_chats = getattr(self.tokenizer, "chat_template", None) is not None
            begins = self.card.bos == "prepend" and not tuned_on_chats
        return self.tokenizer.bos_token_id if begins else None

    @cached_property
    def _begins_texts(self) -> bool | None:
        """Whether texts begin with BOS as the tokenizer or its files have it; None where they do not say."""
        ids = self.tokenizer("a", verbose=False)["input_ids"]
        if ids and ids[0] == self.tokenizer.bos_token_id:
            return True
        says = None
        with suppress(OSError, ValueError):  # the library does not hand on what the file says
            text = (Path(self.directory) / "tokenizer_config.json").read_text(encoding="utf-8")
            says = json.loads(text).get("add_bos_token")
        return says if isinstance(says, bool) else None

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens at which the model stops writing: what its generation settings say, and its tokenizer."""
        settings = getattr(self.bridge.original_model, "generation_config", None)
        said = getattr(settings, "eos_token_id", None)
        stops = said if isinstance(said, list | tuple) else [said]
        return frozenset(int(token) for token in (*stops, self.tokenizer.eos_token_id) if token is not None)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. A `ChatText` becomes what its template means; any other text has BOS in front
        exactly once where the model has one, and the names of control tokens in it are text.
        """
        if isinstance(text, ChatText):
            return list(self.tokenizer(str(text), add_special_tokens=False, verbose=False)["input_ids"])
        return [*self._before, *self.tokenize(text)["input_ids"]]

    def tokenize(self, text: str | list[str], **wanted: Any) -> Any:
        """What the tokenizer makes of plain text, without BOS."""
        return self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False, **wanted
        )

    @property
    def _before(self) -> list[int]:
        bos = self.bos_id
        return [] if bos is None else [bos]

    def chat_text(self, messages: Sequence[dict[str, str]]) -> ChatText | None:
        """A chat as text with the assistant's turn opened (`emocircuits.models.chat`); None where the model
        has no chat format.

        A system message is put before the first user's where the model's template knows no system role.
        """
        from emocircuits.models.chat import chat_text, has_chat

        if not has_chat(self):
            return None
        try:
            return chat_text(self, messages)
        except UserError:
            system = "\n".join(message["content"] for message in messages if message["role"] == "system")
            turns = [dict(message) for message in messages if message["role"] != "system"]
            if not system or not turns:
                raise
            turns[0]["content"] = f"{system}\n\n{turns[0]['content']}"
            return chat_text(self, turns)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of several texts at once, which is faster."""
        if any(isinstance(text, ChatText) for text in texts):
            return [self.encode(text) for text in texts]
        before = self._before
        return [before + list(ids) for ids in self.tokenize(list(texts))["input_ids"]]

    def answer(self, ids: Sequence[int]) -> str:
        """What the model wrote, up to the token at which it stops; without control tokens."""
        written = [int(token) for token in ids]
        end = next((place for place, token in enumerate(written) if token in self.stop_ids), len(written))
        return self.tokenizer.decode(written[:end], skip_special_tokens=True)

    def check_length(self, ids: Sequence[int], more: int = 0) -> None:
        """Makes sure that a prompt, and so many tokens after it, fit into the context.

        Raises:
            UserError: they do not, or the prompt has no tokens.
        """
        if not len(ids):
            raise UserError("a prompt without tokens", expected="text")
        check_context(len(ids), self.n_ctx, more)

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """What each token stands for, leading spaces kept. A character whose bytes are several tokens is the
        text of the last of them, so that the texts joined are the text.
        """
        ids = [int(index) for index in ids]
        texts = [
            piece.replace("\u2581", " ") if "\u2581" in piece else self.tokenizer.decode([index])
            for piece, index in zip(self.tokenizer.convert_ids_to_tokens(ids), ids, strict=True)
        ]
        first = None  # of a character that is not complete
        for place, text in enumerate(texts):
            if UNREADABLE not in text:
                first = None
                continue
            first = place if first is None or place - first >= MOST_BYTES else first
            whole = self.tokenizer.decode(ids[first : place + 1])
            if UNREADABLE not in whole:
                texts[first : place + 1] = [*[""] * (place - first), whole]
                first = None
        return texts

    def single_token(self, word: str) -> int:
        """The id of the one token that continues a text with ` word`.

        Raises:
            UserError: the word is several tokens, or unknown to the tokenizer; the message shows the pieces.
        """
        ids = self._continuation(word.strip())
        if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
            return ids[0]
        pieces = self.token_texts(ids) or ["nothing"]
        raise UserError(
            f"the word '{word}' is not one token of {self.name}: "
            f"{' | '.join(repr(piece) for piece in pieces)}",
            expected="a word that the tokenizer knows as a single token with a space before it",
            cure="choose another target word",
        )

    def _continuation(self, word: str) -> list[int]:
        """Ids that ` word` adds after another word (right for byte-level, sentencepiece and word-level
        tokenizers).
        """
        before, after = (
            self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("The", f"The {word}")
        )
        if after[: len(before)] == before:
            return list(after[len(before) :])
        return list(self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"])

    def __repr__(self) -> str:
        return (
            f"LanguageModel({self.name}, {self.card.name}, {self.n_params / 1e6:.2f} M parameters, "
            f"{self.n_layers} layers, d_model {self.d_model}, d_vocab {self.d_vocab}, "
            f"{len(self.checks)} checks passed)"
        )
