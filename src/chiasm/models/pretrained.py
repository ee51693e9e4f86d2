"""Pretrained models of transformers: read whole or not at all, without code of theirs and pickle, and kept with a run without weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from chiasm.atomic import write_json
from chiasm.documents import Document, read_document, to_json
from chiasm.errors import RecipeError, RunError, first_line

ALLOW_PICKLE = "CHIASM_ALLOW_PICKLED_WEIGHTS"
"""The environment variable that, set to 1, allows weights in a form that torch unpickles (pytorch_model.bin)."""
KEPT = "encoder.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of a channel of photographs, on a scale of 0 to 1."""
SHOWN = 4
"""Parameters that a message names."""


@dataclass(frozen=True)
class Kept(Document):
    """What encoder.json says of a pretrained encoder whose configuration (and tokenizer) lie beside it.

    Attributes:
        weights: a digest of them, as they were read.
        mean, std: of each channel of an image, on a scale of 0 to 1; empty for texts.
    """

    SCHEMA: ClassVar[int] = 1

    weights: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def read_kept(name: str) -> Kept | None:
    """What a run keeps of an encoder, if `name` is the folder in which it does."""
    file = Path(name) / KEPT
    return read_document(file, Kept, "train again") if file.is_file() else None


def read_network(name: str, modality: str) -> Any:
    """The encoder of images or of texts of a pretrained model, in 32 bits; without a pooler, which nothing reads.

    Of a folder that a run keeps it has the configuration, and weights by chance: its own stand in the run.

    Args:
        name: an id of the hub or a folder. modality: "image" or "text": which half of a model of both, as CLIP, is wanted.

    Raises:
        RecipeError: it cannot be read, or configuration and weights are not of one model.
    """
    where = f"inputs.{modality}.encoder"
    if read_kept(name):
        network = _build(name, where)
    else:
        network, found = load_pretrained(name, where, dtype=torch.float32, output_loading_info=True)
        _check_whole(name, modality, network, found)
    half = {"image": "vision_model", "text": "text_model"}[modality]
    whole = network
    if hasattr(network, half):
        network = getattr(network, half)
    elif network.config.is_encoder_decoder:
        network = network.get_encoder()
    network.whole_config = whole.config
    pooler = getattr(network, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        network.pooler = None  # a checkpoint without one would get random weights here
    return network


def load_pretrained(name: str, where: str, **options: Any) -> Any:
    """The network of a model id or a local folder.

    Its own code is never run (nor is anyone asked whether to), and its weights are safetensors; pytorch_model.bin is read only
    where the environment allows it, and then by torch's restricted unpickler.

    Args:
        where: the key of the recipe that names it. options: of `from_pretrained`.

    Raises:
        RecipeError: no such model, one that needs code of its own, or without weights in safetensors.
    """
    from transformers import AutoModel

    allowed = os.environ.get(ALLOW_PICKLE) == "1"
    try:
        with _quiet():
            return AutoModel.from_pretrained(
                name, trust_remote_code=False, use_safetensors=None if allowed else True, **options
            )
    except Exception as error:  # noqa: BLE001 (whatever a foreign folder makes the library raise)
        raise RecipeError(
            "the Hugging Face model cannot be loaded",
            expected="a model id of the hub, or a local folder with config.json and whole weights of that very model in safetensors, "
            "of a kind that transformers itself knows",
            got=f"{name} ({first_line(error)})",
            where=where,
            remedy="check the name, the files and the connection; a model with code of its own is not run; weights in pytorch_model.bin "
            f"are read where {ALLOW_PICKLE}=1 is set, if you trust where they come from",
        ) from None


def _build(folder: str, where: str) -> Any:
    """The network of a configuration that a run keeps, with weights by chance.

    Raises:
        RecipeError: the configuration is damaged.
    """
    from transformers import AutoConfig, AutoModel

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            return AutoModel.from_config(config, dtype=torch.float32)
    except Exception as error:  # noqa: BLE001 (as above)
        raise RecipeError(
            "the configuration of an encoder that the run keeps is damaged",
            got=f"{folder} ({type(error).__name__})",
            where=where,
            remedy="copy the run again, or train again",
        ) from None


def _check_whole(name: str, modality: str, network: Any, found: dict[str, Any]) -> None:
    """Refuse a model that is loaded by half.

    Raises:
        RecipeError: parameters of the model are not in the file, or layers of the file are not in the model.
    """
    own = network.state_dict()
    missing = sorted(key for key in found["missing_keys"] if key in own and "pooler." not in key)
    layers = {_unnumbered(key) for key in own if key != _unnumbered(key)}
    layers |= {f"{network.base_model_prefix}.{layer}" for layer in layers}
    left = sorted(key for key in found["unexpected_keys"] if _unnumbered(key) in layers)
    problems = [(f"{len(missing)} parameters of the model are not in its file", missing)] if missing else []
    problems += [(f"{len(left)} parameters of the file have no place in the model", left)] if left else []
    if problems:
        raise RecipeError(
            "the Hugging Face model loads by half: its configuration and its weights are of different models",
            expected=f"weights of a {type(network).__name__} as config.json describes it",
            got="; ".join(
                f"{what}: {', '.join(keys[:SHOWN])}{' ...' * (len(keys) > SHOWN)}" for what, keys in problems
            ),
            where=f"inputs.{modality}.encoder: {name}",
            remedy="put config.json and weights of one model into the folder",
        )


def _unnumbered(key: str) -> str:
    """A parameter's name with * for the number of its layer."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", key)


def keep(network: Any, folder: Path, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> None:
    """Write into a folder what rebuilds an encoder, but for its weights."""
    folder.mkdir(parents=True)
    network.whole_config.save_pretrained(folder)
    write_json(folder / KEPT, to_json(Kept(digest(network), mean, std)))


def fill(network: Any, folder: Path, name: str, modality: str) -> None:
    """Give an encoder that was built from what a run keeps in a folder the weights of the model `name`, as the run was begun with.

    Raises:
        RunError: they are other ones now, or gone.
    """
    kept, remedy = read_kept(str(folder)), f"bring {name} back as it was, or train again"
    assert kept is not None
    try:
        source = read_network(name, modality)
    except RecipeError as error:
        raise RunError(
            "the pretrained weights that the run was begun with are gone",
            got=error.got,
            where=f"inputs.{modality}.encoder",
            remedy=remedy,
        ) from None
    if digest(source) != kept.weights:
        raise RunError(
            "the pretrained weights are not those that the run was begun with",
            expected=f"weights {kept.weights[:12]}",
            got=f"weights {digest(source)[:12]}",
            where=name,
            remedy=remedy,
        )
    network.load_state_dict(source.state_dict())


def digest(network: Any) -> str:
    """Of all weights by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def settings(network: Any) -> str:
    """What of its configuration decides what an encoder says, as JSON."""
    config = network.config.to_diff_dict()
    return json.dumps({key: config[key] for key in sorted(config) if key not in _OF_THE_FILE}, default=str)


_OF_THE_FILE = ("_name_or_path", "transformers_version", "dtype", "architectures")


def read_normalization(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean and deviation of each channel, on a scale of 0 to 1, by which a model's own preprocessing shifts and scales an image,
    and whether the folder says so; ImageNet's where it has no such file.

    Raises:
        RecipeError: the file is damaged, or says something else than a number for each channel.
    """
    from transformers import AutoImageProcessor, ImageProcessingMixin
    from transformers.utils import cached_file

    try:
        with _quiet():
            files = ("preprocessor_config.json", "processor_config.json")
            if not any(cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in files):
                if channels not in (1, 3):
                    raise _no_normalization(name, channels, "no such file")
                return _spread(IMAGENET[0], channels), _spread(IMAGENET[1], channels), False
            told, _ = ImageProcessingMixin.get_image_processor_dict(name)
            if not {"do_normalize", "image_mean", "image_std", "do_rescale"} <= told.keys():  # the class says the rest
                told = {**vars(AutoImageProcessor.from_pretrained(name, trust_remote_code=False)), **told}
    except RecipeError:
        raise
    except Exception as error:  # noqa: BLE001  as of `read_network`
        raise _no_normalization(name, channels, first_line(error)) from None
    scale = 255 * float(told.get("rescale_factor") or 1 / 255) if told.get("do_rescale", True) else 255.0
    offset = 1.0 if told.get("rescale_offset") else 0.0
    mean, std = told.get("image_mean"), told.get("image_std")
    if not told.get("do_normalize"):
        mean, std = [0.0], [1.0]
    if not (_numbers(mean, channels) and _numbers(std, channels) and all(std)):
        raise _no_normalization(name, channels, f"image_mean {mean}, image_std {std}")
    return _spread([m + offset for m in mean], channels, scale), _spread(std, channels, scale), True


def _numbers(values: Any, channels: int) -> bool:
    """Whether these are a number, for each channel or for all."""
    return (
        isinstance(values, list | tuple)
        and len(values) in (1, channels, 3 if channels == 1 else channels)
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    )


def _spread(values: Any, channels: int, scale: float = 1.0) -> tuple[float, ...]:
    """A number for each channel, of pixels from 0 to 1 where the model has them from 0 to `scale`; of one channel the mean."""
    each = [float(value) / scale for value in values]
    return tuple(each) if len(each) == channels else (sum(each) / len(each),) * channels


def _no_normalization(name: str, channels: int, got: str) -> RecipeError:
    return RecipeError(
        "the Hugging Face model does not say how its images are normalized",
        expected=f"preprocessor_config.json or processor_config.json with image_mean and image_std, {channels} numbers each",
        got=got,
        where=f"inputs.image.encoder: {name}",
        remedy="save the model's image processor into the folder: AutoImageProcessor.from_pretrained(ID).save_pretrained(FOLDER)",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's bars and advice: what matters of it is an error here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
