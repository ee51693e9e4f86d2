"""Features on disk: computed once, then read by every training, fold and evaluation as memory maps."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.atomic import locked, reserve, whole_folder, write_json
from chiasm.errors import CohortError
from chiasm.progress import Progress
from chiasm.runtime.features import FeatureProvider, Levels, Pixels
from chiasm.seals import changed, seal

log = logging.getLogger(__name__)
IMAGES, TEXTS = 32, 256
"""Images and texts that are asked for at once, and so held in memory."""

Part = tuple[slice | NDArray[np.int64], Levels]


class CachedFeatures:
    """What another provider gives, kept in a folder.

    Each cache is named by a hash of all it depends on, so a stale one is never read; it appears whole or not at all.

    Args:
        source: of what is not there yet. folder: where caches live. content: what the images are: their cohort's hash, and windows.
    """

    def __init__(self, source: FeatureProvider, folder: Path, content: str) -> None:
        self.source, self.folder, self.content = source, folder, content

    def images(self, pixels: Pixels) -> Levels | None:
        if self.source.images(pixels[:0]) is None:
            return None
        home = self._home("features", "image", self.content.encode())
        return _kept(home, self._image_parts(pixels), len(pixels))

    def texts(self, ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float16] | None:
        nothing = self.source.texts([])
        if nothing is None:
            return None
        each = [text.astype(np.int64).tobytes() for text in ids]
        lengths = np.array([len(text) for text in ids], np.int64)
        home = self._home("states", "text", lengths.tobytes() + b"".join(each))
        found = _kept(home, self._text_parts(ids, each, lengths), int(lengths.sum()))
        return found[0] if found else nothing

    def key(self, modality: str) -> str:
        return self.source.key(modality)

    def _home(self, kind: str, modality: str, content: bytes) -> Path:
        digest = hashlib.sha256(self.key(modality).encode() + content)
        return self.folder / f"{kind}-{digest.hexdigest()[:16]}"

    def _image_parts(self, pixels: Pixels) -> Iterator[Part]:
        with Progress("frozen features", len(pixels)) as bar:
            for start in range(0, len(pixels), IMAGES):
                own = slice(start, min(start + IMAGES, len(pixels)))
                yield own, self.source.images(pixels[own]) or []
                bar.advance(own.stop - own.start)

    def _text_parts(
        self, ids: Sequence[NDArray[np.integer]], each: Sequence[bytes], lengths: NDArray[np.int64]
    ) -> Iterator[Part]:
        """Texts of one length and equal texts are asked for together: each is then read once, and nothing is padded far."""
        end = np.cumsum(lengths)
        order = sorted(np.flatnonzero(lengths).tolist(), key=lambda i: (lengths[i], each[i]))
        with Progress("states of texts", len(order)) as bar:
            for start in range(0, len(order), TEXTS):
                own = order[start : start + TEXTS]
                states = self.source.texts([ids[i] for i in own])
                assert states is not None
                yield np.concatenate([np.arange(end[i] - lengths[i], end[i]) for i in own]), [states]
                bar.advance(len(own))


def _kept(home: Path, parts: Iterator[Part], count: int) -> Levels:
    """The arrays of a folder, each of `count` rows; filled by `parts` where there is none."""
    if not _is_whole(home):
        with locked(home.with_name(f"{home.name}.lock"), CohortError):  # wait for a process that computes the same
            if not _is_whole(home):
                shutil.rmtree(home, ignore_errors=True)
                with whole_folder(home, CohortError) as partial:
                    _fill(partial, parts, count)
    arrays = len(json.loads((home / "done.json").read_text("utf-8"))["channels"])
    return [np.load(home / f"level{i}.npy", mmap_mode="r", allow_pickle=False) for i in range(arrays)]


def _is_whole(home: Path) -> bool:
    """Whether a cache is there, and its files are what was written; one that has changed is told, and is made anew."""
    if not (home / "done.json").is_file():
        return False
    if lost := changed(home):
        log.warning("%s has changed since it was written (%s): its features are computed again", home, ", ".join(lost))
    return not lost


def _fill(folder: Path, parts: Iterator[Part], count: int) -> None:
    files: list[np.memmap] = []
    for rows, arrays in parts:
        if not files:
            files = [
                np.lib.format.open_memmap(
                    folder / f"level{i}.npy", mode="w+", dtype=np.float16, shape=(count, *array.shape[1:])
                )
                for i, array in enumerate(arrays)
            ]
            for i in range(len(files)):
                reserve(folder / f"level{i}.npy")
        for file, array in zip(files, arrays, strict=True):
            file[rows] = array
    for file in files:
        file.flush()
    write_json(folder / "done.json", {"channels": [file.shape[1] for file in files]})
    seal(folder, [f"level{i}.npy" for i in range(len(files))])
