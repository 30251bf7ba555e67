"""sae-lens' own loaders of published SAEs, fed with files that lie here.

A loader asks a repository of the Hugging Face hub for files and makes a configuration and tensors of them, in
the form that sae-lens' classes take. The loaders are functions of one module, which reaches for files through
a few names. A copy of that module gets other doors under these names, so that the same code reads a
directory; sae-lens itself stays as it is. Through the doors come

- files that a `find` of ours gives, and no request of the loaders' own;
- tensors alone from `.pt` files: torch reads them with `weights_only=True`, whatever the environment says,
  which runs no code from the file;
- settings of at most `CONFIG_LIMIT` bytes.

What a loader gets wrong is mended here, with the reason beside it.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import torch
from huggingface_hub.errors import EntryNotFoundError
from sae_lens.loading import pretrained_sae_loaders
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from emocircuits.errors import UserError
from emocircuits.sae.loading.handle import CONFIG_LIMIT
from emocircuits.sae.loading.places import place_in_block, place_read

DOORS = ("hf_hub_download", "hf_hub_url", "get_safetensors_tensor_shapes", "requests", "torch", "json")
TENSORS_ONLY = partial(torch.load, map_location="cpu", weights_only=True)
SHAPES = {"w_enc": [1, 1], "w_dec": [1, 1]}  # where no weights are at hand, no place depends on them
# what dictionary_learning calls its SAEs; sae-lens takes a name that it does not know for a ReLU SAE
DICTIONARIES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
)


@dataclass(frozen=True)
class Request:
    """What a loader of sae-lens is asked for.

    Attributes:
        loader: its name in sae-lens.
        repository: the repository's id on the hub, out of which some loaders read the model.
        folder: the SAE's path in the repository, out of which some loaders read layer and width.
        find: path in the repository -> the file; raises `EntryNotFoundError` where there is none.
        overrides: settings that are known better than the loader knows them.
    """

    loader: str
    repository: str
    folder: str
    find: Callable[[str], Path]
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RawSAE:
    """An SAE as sae-lens wants it.

    Attributes:
        config: `architecture`, `d_in`, `d_sae` and what belongs to the architecture.
        tensors: weights under sae-lens' names.
        place: the place it says it was trained at, "" where it does not say.
        about: `model_name`, `prepend_bos`, `context_size`, `neuronpedia_id` where known.
        scale: factor that inputs were multiplied by in training, still to be folded into the weights; 1 where
            there is none, 0 where there is one and the files do not say which.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    place: str
    about: dict[str, Any]
    scale: float


def read_place(request: Request) -> str:
    """The place an SAE says it was trained at, from its settings; "" where they do not say.

    Raises:
        EntryNotFoundError: a file that the loader cannot do without is not there.
        Exception: whatever the loader meets in files that are not as it expects.
    """
    module, seen = _loaders(request)
    getter = module.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[request.loader]
    return _place(request, getter(**_arguments(request)), seen)


def read(request: Request) -> RawSAE:
    """The configuration and the weights that a loader makes of its files.

    Raises:
        EntryNotFoundError: a file that the loader cannot do without is not there.
        Exception: whatever the loader meets in files that are not as it expects.
    """
    module, seen = _loaders(request)
    config, tensors, _ = module.NAMED_PRETRAINED_SAE_LOADERS[request.loader](**_arguments(request))
    place = _place(request, config, seen)
    config = module.handle_config_defaulting(config)
    scaled = config.get("normalize_activations") == "expected_average_only_in"
    _mend(request.loader, config, tensors, seen)
    # the weights say their sizes; some loaders know those of what was published alone
    config |= {"d_in": tensors["W_dec"].shape[1], "d_sae": tensors["W_dec"].shape[0]}
    known = ("model_name", "prepend_bos", "context_size", "neuronpedia_id")
    metadata = dict(config.get("metadata") or {})
    about = {name: metadata[name] for name in known if metadata.get(name) is not None}
    return RawSAE(config, tensors, place, about, _scale(seen, config["d_in"]) if scaled else 1.0)


def named_places(loader: str, repository: str, folders: Iterable[str]) -> dict[str, str]:
    """The places that a loader reads out of the names of a repository and its folders, without any file;
    those that it needs files for are left out.
    """
    found, module, seen = {}, None, []
    for folder in folders:
        request = Request(loader, repository, folder, _nothing)
        if module is None:
            module, seen = _loaders(request)
        try:
            getter = module.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[loader]
            found[folder] = _place(request, getter(**_arguments(request)), seen)
        except EntryNotFoundError:
            continue
    return found


def _nothing(name: str) -> Path:
    raise EntryNotFoundError(name)


def _arguments(request: Request) -> dict[str, Any]:
    return {
        "repo_id": request.repository,
        "folder_name": request.folder,
        "device": "cpu",
        "force_download": False,
        "cfg_overrides": {**request.overrides, "device": "cpu", "dtype": "float32"},
    }


def _place(request: Request, config: dict[str, Any], seen: list[dict[str, Any]]) -> str:
    """Where an SAE reads. sae-lens takes every SAE of dictionary_learning and sparsify for one of the
    residual stream; the settings of the one and the folders of the other know better.
    """
    if request.loader == "dictionary_learning_1":
        trainer = _trainer(seen)
        return place_in_block(trainer.get("layer"), str(trainer.get("submodule_name") or ""))
    named = re.search(r"layers[._](\d+)(?:[._](.+))?$", Path(request.folder).name)
    if request.loader == "sparsify" and named is not None:
        return place_in_block(named[1], named[2] or "")
    return place_read(config)


def _mend(
    loader: str, config: dict[str, Any], tensors: dict[str, Tensor], seen: list[dict[str, Any]]
) -> None:
    """What sae-lens would read wrongly, put right in place or refused."""
    if loader == "dictionary_learning_1":
        kind = _trainer(seen)["dict_class"]
        if kind not in DICTIONARIES:
            raise ValueError(f"dict_class {kind}, known are {', '.join(DICTIONARIES)}")
        if kind == "AutoEncoderNew":  # relu(W x + b), where an AutoEncoder has relu(W (x - b_dec) + b)
            config["apply_b_dec_to_input"] = False
    if loader == "sparsify":
        if any(one.get(name) for one in seen for name in ("signed", "transcode", "skip_connection")):
            raise ValueError("signed activations and transcoders are not SAEs of the residual stream")
        # published decoders lie both ways round; the loader turns all of them
        if tensors["W_dec"].shape == (config["d_in"], config["d_sae"]):
            tensors["W_dec"] = tensors["W_dec"].T


def _trainer(seen: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one["trainer"] for one in seen if "trainer" in one)


def _scale(seen: list[dict[str, Any]], d_in: int) -> float:
    """What inputs were multiplied by, from the mean norm of activations in the settings of Llama Scope."""
    norms = [one.get("dataset_average_activation_norm") for one in seen]
    norm = next((one["in"] for one in norms if isinstance(one, dict) and one.get("in")), None)
    return 0.0 if norm is None else d_in**0.5 / float(norm)


def _loaders(request: Request) -> tuple[Any, list[dict[str, Any]]]:
    """sae-lens' loaders with our doors, and the settings that came through them."""
    spec = importlib.util.spec_from_file_location("emocircuits_sae_loaders", pretrained_sae_loaders.__file__)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    seen: list[dict[str, Any]] = []
    spec.loader.exec_module(module)
    missing = [name for name in DOORS if not hasattr(module, name)]
    assert not missing, f"sae-lens' loaders reach for files without {', '.join(missing)}"

    def download(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        return str(request.find(f"{subfolder}/{filename}" if subfolder else filename))

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        try:
            path = request.find(filename)
        except EntryNotFoundError:
            return SHAPES
        with safe_open(path, framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}

    def settings(file: IO[str]) -> dict[str, Any]:
        text = file.read(CONFIG_LIMIT + 1)
        if len(text) > CONFIG_LIMIT:
            raise ValueError(f"settings of more than {CONFIG_LIMIT} bytes")
        seen.append(_filled(request.loader, json.loads(text)))
        return dict(seen[-1])

    module.hf_hub_download, module.get_safetensors_tensor_shapes = download, shapes
    module.hf_hub_url, module.requests = None, None
    module.json, module.torch = SimpleNamespace(load=settings), _TensorsOnly("torch")
    return module, seen


def _filled(loader: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with what the loader insists on: dictionary_learning writes no buffer where the rows came from
    elsewhere.
    """
    if loader != "dictionary_learning_1" or "trainer" not in settings:
        return settings
    trainer, buffer = {"lm_name": "", **settings["trainer"]}, settings.get("buffer") or {}
    return settings | {"trainer": trainer, "buffer": {"ctx_len": None, **buffer}}


class _TensorsOnly(ModuleType):
    """torch, with a `load` that takes nothing but tensors from a file."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def load(self, path: str, **_: Any) -> dict[str, Tensor]:
        """The tensors of a file."""
        found = dict(load_file(path) if path.endswith(".safetensors") else tensors_of(Path(path)))
        if "decoder.bias" in found:  # of an AutoEncoderNew; the loader knows the other names that it has
            found.setdefault("bias", found["decoder.bias"])
        return found


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` file; nothing else in it is read.

    Raises:
        UserError: the file holds anything else, or is damaged.
    """
    try:
        found = TENSORS_ONLY(path)
    except Exception as error:  # torch has an error of another library for it
        raise UserError(
            f"{path} holds more than tensors or is damaged ({type(error).__name__}); it was not read, since "
            "what else such a file holds can run code",
            expected="a file of tensors alone",
            cure="get it again, or where you trust it save its tensors with safetensors.torch.save_file",
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}", expected="tensors by their names")
    return found
