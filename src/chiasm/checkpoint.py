"""A training checkpoint without pickle: tensors in safetensors, everything else as JSON in the same file's header.

Lightning's own checkpoints are pickles, which run code when loaded. Here a nested structure of dictionaries, lists,
tuples, numbers, strings and tensors is taken apart and put together again; anything else is refused when saving.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chiasm.atomic import whole_file
from chiasm.errors import RunError


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The JSON form of `value`; tensors move to `tensors` under a running number.

    Raises:
        TypeError: for an object that is neither data nor a tensor.
    """
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()  # clone: safetensors refuses shared memory
        return {"tensor": key}
    if isinstance(value, dict):
        return {"items": [[pack(k, tensors), pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [pack(v, tensors) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds data and tensors only, got {type(value).__name__}")


def unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in content}
    return (tuple if kind == "tuple" else list)(unpack(v, tensors) for v in content)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write atomically: a kill leaves the old file or the new one, never half of one."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(pack(checkpoint, tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"tree": tree})


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read what `write_checkpoint` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
            tree = json.loads(file.metadata()["tree"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            "the checkpoint cannot be read",
            expected="a file written by chiasm train",
            got=type(error).__name__,
            where=str(path),
            remedy="delete it and train again, or resume from the last checkpoint",
        ) from None
    checkpoint: dict[str, Any] = unpack(tree, tensors)
    return checkpoint


class SafeCheckpointIO(CheckpointIO):  # type: ignore[misc]
    """Lightning's door to the two functions above."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def random_state() -> dict[str, Tensor]:
    """Torch's random states, of the CPU and of every GPU."""
    states = {"cpu": torch.get_rng_state()}
    for number, state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []):
        states[f"cuda:{number}"] = state
    return states


def restore_random_state(states: dict[str, Tensor]) -> None:
    """Put back what `random_state` took."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state.cpu())
        else:
            torch.cuda.set_rng_state(state.cpu(), device)
