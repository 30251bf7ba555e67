"""Chats as text, in the form that a model was trained with: its tokenizer's own template, or its family's
format.
"""

from collections.abc import Sequence
from typing import Any

from emocircuits.errors import UserError
from emocircuits.models.language_model import ChatText, LanguageModel

ROLES = ("system", "user", "assistant")


def chat_text(model: LanguageModel, messages: Sequence[dict[str, str]], *, reply: bool = True) -> ChatText:
    """A chat as the text that `model.encode` takes, with all control tokens that belong to it.

    Args:
        model: the model.
        messages: `{"role": "system" | "user" | "assistant", "content": text}` in order.
        reply: whether the assistant's next turn is opened at the end.

    Raises:
        UserError: no messages, another role, or a model without a chat template whose family's format its
            tokenizer does not know.
    """
    check_messages(messages)
    if getattr(model.tokenizer, "chat_template", None):
        try:
            text = model.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=reply
            )
        except Exception as error:  # a template is a program of its own and raises what it likes
            raise UserError(
                f"the chat template of {model.name} refuses these messages ({error})",
                cure="many templates want user and assistant in turns, and some no system message",
            ) from error
        return ChatText(text)
    form = model.card.chat
    if form is None or not has_chat(model):
        raise UserError(
            f"the model {model.name} has no chat template",
            expected="an instruction-tuned model, or its tokenizer's template",
            cure="give plain text instead of a chat",
        )
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    turns = [message for message in messages if message["role"] != "system"]
    parts = []
    for number, message in enumerate(turns):
        content = f"{system}\n\n{message['content']}" if system and number == 0 else message["content"]
        parts.append((form.user if message["role"] == "user" else form.assistant).replace("{text}", content))
    bos = "" if model.bos_id is None else model.tokenizer.bos_token
    return ChatText(bos + "".join(parts) + (form.opening if reply else ""))


def has_chat(model: LanguageModel) -> bool:
    """Whether the tokenizer brings a chat template, or knows the format of the model's family."""
    if getattr(model.tokenizer, "chat_template", None):
        return True
    form = model.card.chat
    return form is not None and model.tokenizer.convert_tokens_to_ids(form.marker) not in (
        None,
        model.tokenizer.unk_token_id,
    )


def check_messages(messages: Any) -> None:
    """Makes sure that a chat is a list of turns.

    Raises:
        UserError: it is not.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise UserError(
            f"a chat of type {type(messages).__name__}", expected='a list of {"role": …, "content": …}'
        )
    for number, message in enumerate(messages):
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise UserError(
                f"message {number} of the chat is {str(message)[:60]!r}",
                expected=f'{{"role": {" | ".join(ROLES)}, "content": text}}',
            )
