"""Volumes from NIfTI files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from chiasm.errors import ImageError
from chiasm.formats.reading import check_size, explained, fill_missing, missing_note
from chiasm.formats.volume import canonical
from chiasm.study import Image, Rejected, Values

SUFFIXES = (".nii", ".nii.gz")
_TO_MM = {1: 1e3, 2: 1.0, 3: 1e-3}  # metre, millimetre, micron; every other code is taken as millimetres, and said
_UNSTATED = 0


def read_nifti(path: Path, *, image_id: str = "", dicom_modality: str = "", name: str = "") -> Image:
    """Read one 3-D NIfTI-1 or -2 file as [D, H, W] with axes to Superior, Anterior, Right.

    Whole numbers keep their dtype where the header scales nothing; all else is float32. NaN is background, the lowest value
    of the volume, and said in `Image.notes`. See `chiasm.formats.volume.canonical` for the geometry. A plane (one of the axes
    has one voxel) is a volume of depth 1.

    Args:
        image_id: the file's name without suffix when left out.
        dicom_modality: no NIfTI file says it. Of a CT the values are taken as Hounsfield units.
        name: what to call the file in `Image.source` and in errors, instead of its path.

    Raises:
        ImageError: no such file, not NIfTI, truncated, larger than may be read, without orientation, several volumes, or not of
            real finite numbers.
    """
    import nibabel

    path = Path(path)
    where = name or str(path)
    expected = "a 3-D NIfTI file"
    if not path.is_file() or not path.stat().st_size:
        got = "a file of 0 bytes" if path.is_file() else "no such file"
        raise ImageError("The volume is not there", expected=expected, got=got, where=where)
    with explained("The volume cannot be read", where, expected=expected):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a kind of it
            raise ImageError("The file is no NIfTI file", expected=expected, got=type(image).__name__, where=where)
        header, stored = image.header, image.get_data_dtype()
        shape = _check_shape(image.shape, where)
        if stored.kind not in "buif":
            raise ImageError("The volume is not of real numbers", expected="gray values", got=str(stored), where=where)
        compressed = path.name.lower().endswith(".gz")
        check_size(math.prod(shape) * stored.itemsize, path.stat().st_size, where, compressed=compressed)
        values = np.asanyarray(image.dataobj).reshape(shape)
        if not int(header["sform_code"]) and not int(header["qform_code"]):
            raise ImageError(
                "The volume does not say which way it lies, so left and right are unknown",
                expected="an sform or qform code above 0",
                got="both 0",
                where=where,
                remedy="set the orientation in the program that wrote the file",
            )
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
        else:
            values = values.astype(values.dtype.newbyteorder("="))
        values, missing = fill_missing(values, where)
        notes = [missing_note(missing, values.size)] if missing else []
        unit = int(header["xyzt_units"]) & 7
        if unit not in (*_TO_MM, _UNSTATED):
            notes.append(f"the unit of length has the unknown code {unit}: taken as millimetres")
        affine = np.asarray(image.affine, np.float64).copy()
        affine[:3] *= _TO_MM.get(unit, 1.0)
        pixels, geometry = canonical(values, affine, where)
    return Image(
        image_id or path.name.removesuffix(".gz").removesuffix(".nii"),
        np.ascontiguousarray(pixels),
        geometry,
        dicom_modality=dicom_modality,
        source=name or path.name,
        values=Values.MODALITY,
        notes=tuple(Rejected(name or path.name, note, taken=True) for note in notes),
    )


def _check_shape(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """Three axes, of a shape whose further axes have one element each."""
    further = [n for n in shape[3:] if n != 1]
    spatial = (*shape[:3], *[1] * (3 - len(shape)))
    if further or len(shape) < 2 or min(spatial) < 1:
        several = min(shape) >= 1 and bool(further)
        raise ImageError(
            "The file holds several volumes" if several else "The file holds no single volume",
            expected="3 axes",
            got=" x ".join(map(str, shape)),
            where=where,
            remedy="save each volume as a file of its own (fslsplit, or nibabel.four_to_three), or their mean"
            if several
            else "",
        )
    return spatial
