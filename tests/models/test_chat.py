"""Chats become text by the tokenizer's template, else by the family's format, else not at all."""

import json

import pytest

from emocircuits.errors import UserError
from emocircuits.models import FAMILIES, load_model
from emocircuits.models.chat import chat_text, check_messages
from emocircuits.models.language_model import ChatText
from emocircuits.models.spans import encode_with_offsets
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
    assert text == "<bos>[user] Hello\n[assistant] Hi\n[user] Who?\n[assistant]"
    assert model.encode(text).count(model.tokenizer.bos_token_id) == 1
    model.tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError, match="refuses these messages .no system role"):
        chat_text(model, MESSAGES)


BODY = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.mark.parametrize("family", ["olmo2", "qwen2", "llama", "mistral", "gemma2"])
@pytest.mark.parametrize("template", ["{{ bos_token }}" + BODY, BODY])
def test_tokens_of_a_chat_are_those_that_the_template_means(family, template, tmp_path):
    """Whether the family's texts begin with BOS or not."""
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False)
    model.tokenizer.chat_template = template
    right = model.tokenizer.apply_chat_template(
        MESSAGES[1:], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    text = model.chat_text(MESSAGES[1:])
    assert model.encode(text) == model.encode_batch([text, "plain"])[0] == list(right)
    assert model.encode(text + " I") == [*right, *model.tokenize(" I")["input_ids"]]
    assert (
        model.encode("plain").count(model.tokenizer.bos_token_id) == 0
    )  # the template would have written it


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("text", ["<bos>He wrote", "He wrote <eos> and left"])
def test_names_of_control_tokens_in_plain_text_are_text(family, text, tmp_path):
    model = load_model(str(write_tiny_model(family, tmp_path)), checks=False)
    ids, batch = model.encode(text), model.encode_batch([text, "more"])[0]
    (offsets,) = encode_with_offsets(model, [text])
    begins = family == "llama"
    assert ids == batch == offsets[0]
    assert not set(ids[begins:]) & set(model.tokenizer.all_special_ids)
    assert ids[:begins] == [model.tokenizer.bos_token_id][:begins]
    assert model.tokenizer.decode(ids[begins:]) == text
    assert model.encode(ChatText(text)) != ids


@pytest.mark.parametrize(
    ("says", "begins"), [(True, True), (False, False), (None, True)], ids=["yes", "no", "nothing"]
)
def test_the_tokenizers_files_say_whether_texts_begin_with_bos(says, begins, tmp_path):
    directory = write_tiny_model("llama", tmp_path)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings if says is None else {**settings, "add_bos_token": says}))
    model = load_model(str(directory))
    assert (model.encode("The day")[0] == model.tokenizer.bos_token_id) == begins


def test_writing_stops_where_the_generation_settings_say(tmp_path):
    directory = write_tiny_model("llama", tmp_path)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    model = load_model(str(directory), checks=False)
    assert model.stop_ids == {7, 9, model.tokenizer.eos_token_id}


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
