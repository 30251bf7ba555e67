"""Chats become text by the tokenizer's template, else by the family's format, else not at all."""

import pytest

from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.chat import chat_text, check_messages
from emocircuits.models.tiny import write_tiny_model

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Who?"},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(write_tiny_model("qwen2", tmp_path_factory.mktemp("chat"))), checks=False)


def test_without_a_template_the_model_has_no_chat(model):
    with pytest.raises(UserError, match="has no chat template.*give plain text"):
        chat_text(model, MESSAGES)


def test_the_family_format_is_used_where_the_tokenizer_knows_it(tmp_path):
    model = load_model(str(write_tiny_model("qwen2", tmp_path)), checks=False)
    model.tokenizer.add_tokens(["<|im_start|>"])
    assert chat_text(model, MESSAGES) == (
        "<|im_start|>user\nBe "
        "brief.\n\nHello<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_tokenizers_template_comes_first_and_bos_stays_single(tmp_path):
    model = load_model(str(write_tiny_model("llama", tmp_path)), checks=False)
    model.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content "
        "}}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    text = chat_text(model, MESSAGES[1:])
    assert text == "[user] Hello\n[assistant] Hi\n[user] Who?\n[assistant]"
    assert model.encode(text).count(model.bos_id) == 1
    model.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError, match="refuses these messages .no system role"):
        chat_text(model, MESSAGES)


@pytest.mark.parametrize(
    "messages", [[], "hello", [{"role": "robot", "content": "x"}], [{"role": "user"}], [3]]
)
def test_what_is_no_chat(messages):
    with pytest.raises(UserError, match="expected"):
        check_messages(messages)


def test_every_card_with_a_format_has_its_places():
    for card in FAMILIES:
        assert card.chat is None or (
            "{text}" in card.chat.user and "{text}" in card.chat.assistant and card.chat.marker
        ), card.name
