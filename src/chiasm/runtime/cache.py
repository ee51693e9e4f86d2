"""Feature maps of a frozen backbone on disk: computed once, then read by training instead of running the network."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chiasm.atomic import locked, whole_folder, write_json
from chiasm.encoding.images import Shown
from chiasm.errors import CohortError
from chiasm.models.image.encoder import Extractor

Levels = list[NDArray[np.float16]]


def frozen_features(
    encoder: Extractor,
    pixels: Shown,
    pixels_hash: str,
    folder: Path,
    progress: Callable[[int], None] | None = None,
    batch_size: int = 32,
) -> Levels:
    """The backbone's maps of every image, one memory-mapped [n, c, *s] float16 array a level.

    Args:
        pixels: [n, C, *S] images; pixels_hash: what they are (the cohort's hash, and windows), part of the key.
        folder: where caches live; each is named by a hash of the weights and the pixels, so a stale one is never read.
        progress: called with the number of images done since the last call.
    """
    digest = hashlib.sha256(f"{pixels_hash} {encoder.levels} {encoder.backbone.channels}".encode())
    for name, tensor in sorted(encoder.backbone.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    home = folder / f"features-{digest.hexdigest()[:16]}"
    if not (home / "done.json").is_file():
        with locked(home.with_name(f"{home.name}.lock"), CohortError):  # wait for a process that computes the same
            if not (home / "done.json").is_file():
                shutil.rmtree(home, ignore_errors=True)
                with whole_folder(home, CohortError) as partial:
                    _compute(encoder, pixels, partial, progress, batch_size)
    levels = len(json.loads((home / "done.json").read_text("utf-8"))["channels"])
    return [np.load(home / f"level{i}.npy", mmap_mode="r", allow_pickle=False) for i in range(levels)]


def _compute(
    encoder: Extractor,
    pixels: Shown,
    folder: Path,
    progress: Callable[[int], None] | None,
    batch_size: int,
) -> None:
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    files: list[np.memmap] = []
    with torch.no_grad():
        for start in range(0, len(pixels), batch_size):
            part = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(device)
            maps = [m.half().cpu().numpy() for m in encoder.extract(part)]
            if not files:
                files = [
                    np.lib.format.open_memmap(
                        folder / f"level{i}.npy", mode="w+", dtype=np.float16, shape=(len(pixels), *m.shape[1:])
                    )
                    for i, m in enumerate(maps)
                ]
            for file, level in zip(files, maps, strict=True):
                file[start : start + len(level)] = level
            if progress is not None:
                progress(len(part))
    for file in files:
        file.flush()
    encoder.train(was_training)
    write_json(folder / "done.json", {"channels": [file.shape[1] for file in files]})
