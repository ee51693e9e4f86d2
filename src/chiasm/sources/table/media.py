"""The files a table points to: pictures, volumes, masks and texts, each read alone, so that a bad one costs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import ImageError, TableError
from chiasm.formats import cells as parse
from chiasm.formats import nifti, pixels
from chiasm.formats.intensity import Intensity
from chiasm.geometry import Geometry
from chiasm.sources.table.schema import Images, Masks
from chiasm.sources.table.tabular import find_folders
from chiasm.study import Image, View

DICOM = (".dcm", ".dicom")
PICTURES = (*sorted(pixels.SUFFIXES), *DICOM, ".nii.gz", ".nii")


def find_file(root: Path, folders: Sequence[str], name: str) -> Path | None:
    """The file, or folder of slices, of a cell: in the first folder (relative to the table's) that has it."""
    forms = dict.fromkeys((name, name.replace("\\", "/")))  # tables from Windows
    try:
        return next((p for folder in folders for form in forms if (p := root / folder / form).exists()), None)
    except (OSError, ValueError):  # a text that no file can be called by
        return None


def is_lost_link(root: Path, folders: Sequence[str], name: str) -> bool:
    """Whether a file is not found because it is a link to something that is not there."""
    try:
        return any((root / folder / name).is_symlink() for folder in folders)
    except (OSError, ValueError):
        return False


def with_suffix(root: Path, part: Images, name: str) -> str:
    """The name of a cell with what it lacks: of several suffixes the first that makes the name of a file."""
    forms = [name + suffix for suffix in part.suffix] or [name]
    return next((form for form in forms if len(forms) > 1 and find_file(root, part.folder, form)), forms[0])


def check_files(root: Path, images: Images, names: Sequence[str]) -> None:
    """Make sure that at least one of the files is there, before a whole table is rejected row by row.

    Raises:
        TableError: none is; the message names a folder or suffix that would do, where there is one.
    """
    if not names or any(find_file(root, images.folder, name) for name in names):
        return
    remedy = "name the folder of the images, relative to the table: `images: {columns: ..., folder: ...}`"
    if (root / images.folder[0]).is_dir():
        endings = [e for e in PICTURES if find_file(root, images.folder, names[0] + e)]
        folders = find_folders(root, names[:5])
        bare = [Path(name).name for name in names[:5]]
        if endings:
            remedy = f"the file has an ending that the cell lacks: write `suffix: {endings[0]}` under images"
        elif folders:
            remedy = f"they are in another folder: write `folder: {folders[0] if len(folders) == 1 else folders}` under images"
        elif found := find_folders(root, bare):
            remedy = (
                f"files of these names, without the folders in the cells, are in {found[0]}: shorten the cells to names"
            )
    raise TableError(
        f"none of the {len(names)} image files looked for is there",
        expected="paths in the cells, relative to the folder that `images` names (or else to the table's)",
        got=f"no file {parse.file_name(names[0])} in {root / images.folder[0]}",
        where=str(root),
        remedy=remedy,
    )


def read_picture(
    files: Sequence[Path],
    image_id: str,
    source: str,
    *,
    part: Images,
    view: View | None = None,
    frame: Sequence[int] | None = None,
    intensity: Intensity | None = None,
) -> Image:
    """One image file of any kind, or a folder of the DICOM slices of one series, as a noun.

    Args:
        files: one, or the slices of a volume.
        part: what the map says of the images.
        view: None to take what the file says (DICOM), else OTHER.
        frame: (width, height) of the picture that boxes refer to, or None for the pixels of the file.
        intensity: the rules of modalities; the defaults if None.

    Raises:
        ImageError: it cannot be read.
    """
    path = files[0]
    if part.volume and (slices := _pictures(files)):
        image = pixels.read_slices(slices, part.volume.spacing_mm, name=source)
    elif path.name.lower().endswith(nifti.SUFFIXES):
        image = nifti.read_nifti(path, name=source)
    elif path.is_dir() or path.suffix.lower() in DICOM or _is_dicom(path):
        from chiasm.formats.dicom import read_dicom, read_series

        image = (
            read_series(
                slices := _slices(path), intensity=intensity, name=source, names=[f"{source}/{f.name}" for f in slices]
            )
            if path.is_dir()
            else read_dicom(path, intensity=intensity, name=source)
        )
    else:
        image = pixels.read_picture(path, name=source, channels=len(part.channels))
    geometry = image.geometry
    if frame is not None:
        original = (*image.pixels.shape[:-2], frame[1], frame[0])
        ratio = [old / new for old, new in zip(image.pixels.shape, original, strict=True)]
        spacing = tuple(mm * r for mm, r in zip(geometry.spacing_mm, ratio)) if geometry.spacing_mm else ()
        geometry = Geometry.identity(original, spacing).resized(image.pixels.shape)
    modality = image.dicom_modality or part.modality
    return replace(
        image, image_id=image_id, geometry=geometry, view=view or image.view, dicom_modality=modality, source=source
    )


def _slices(folder: Path) -> list[Path]:
    slices = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not slices:
        raise ImageError("the folder holds no files", expected="the DICOM slices of one series")
    return slices


def _pictures(files: Sequence[Path]) -> list[Path]:
    """The slices of a volume that are pictures: those given, or those of a folder by their numbers; [] of anything else."""
    listed = files if len(files) > 1 or not files[0].is_dir() else pixels.numbered(files[0].iterdir())
    found = [file for file in listed if file.suffix.lower() in pixels.SUFFIXES]
    return found if len(found) == len(files) or files[0].is_dir() else []


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_mask(path: Path, part: Masks, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask file as [H, W] or [D, H, W] bool of `shape`.

    Raises:
        ImageError: unreadable, of another shape, or of more than two values where the map does not say which is meant.
    """
    values: NDArray[Any] = (
        nifti.read_nifti(path).pixels if path.name.lower().endswith(nifti.SUFFIXES) else pixels.read_image(path)
    )
    if values.shape != shape:
        size = " x ".join(map(str, shape))
        raise ImageError("the mask is not of its image's size", expected=size, got=" x ".join(map(str, values.shape)))
    if part.value is not None:
        return np.asarray(values == part.value)
    different = np.unique(values)
    if len(different) > 2 or (len(different) == 2 and different[0] != 0):
        got = f"{len(different)} values (a JPEG blurs a mask; PNG keeps it)"
        raise ImageError("which value is the mask is unknown: `value` under masks says it", got=got)
    return np.asarray(values != 0)
