"""DICOM objects made by the tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}


def dicom_object(pixels: np.ndarray, **elements: Any) -> Dataset:
    """A DICOM object of [H, W], [H, W, 3] or (with NumberOfFrames) [F, H, W] pixels; keywords are header elements."""
    data = Dataset()
    data.Modality = elements.get("Modality", "CR")
    data.SOPClassUID = CLASSES.get(data.Modality, CLASSES["OT"])
    data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID = (generate_uid() for _ in range(3))
    data.PatientID, data.PatientName = "4711", "Doe^Jane"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3 and "NumberOfFrames" not in elements
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    data.Rows, data.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = elements.get("BitsStored", data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    return data


def encapsulated(data: Dataset, stream: bytes, syntax: str) -> Dataset:
    """The object with its pixels replaced by one compressed stream."""
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([stream])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return data


def save(data: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def lut_item(table: np.ndarray, first: int, bits: int) -> Dataset:
    """An item of a modality or VOI LUT sequence, entries as 16-bit words."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table) % 2**16, first, bits])
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    return item


def slices(
    volume: np.ndarray,
    affine: np.ndarray,
    **elements: Any,
) -> list[Dataset]:
    """One object a slice of `volume` [slice, row, column]; `affine` maps (slice, row, column) to RAS+ mm."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    pitch = np.linalg.norm(lps[:3, :3], axis=0)
    series, study = generate_uid(), generate_uid()
    found = []
    for index, plane in enumerate(volume):
        data = dicom_object(plane, Modality="CT", SeriesInstanceUID=series, StudyInstanceUID=study)
        data.InstanceNumber = index + 1
        data.ImagePositionPatient = [f"{x:.6f}" for x in (lps @ [index, 0, 0, 1])[:3]]
        directions = np.concatenate([lps[:3, 2] / pitch[2], lps[:3, 1] / pitch[1]])
        data.ImageOrientationPatient = [f"{x:.8f}" for x in directions]
        data.PixelSpacing = [f"{pitch[1]:.6f}", f"{pitch[2]:.6f}"]
        for keyword, value in elements.items():
            setattr(data, keyword, value)
        found.append(data)
    return found


def lossless_jpeg(pixels: np.ndarray, bits: int) -> bytes:
    """A lossless JPEG (process 14, selection value 1) of gray pixels [H, W], by ITU-T T.81, annex H."""
    height, width = pixels.shape
    values = pixels.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 2 ** (bits - 1)
    codes = []
    for difference in ((values - predicted + 2**15) % 2**16 - 2**15).ravel():
        size = 16 if difference == -(2**15) else int(abs(difference)).bit_length()
        codes.append(f"{size:05b}")  # 17 categories, each a code of five bits
        if 0 < size < 16:
            codes.append(f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}")
    text = "".join(codes)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body

    frame = bytes([bits, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), 1, 1, 0x11, 0])
    table = bytes([0, *(17 if length == 5 else 0 for length in range(1, 17)), *range(17)])
    return (
        b"\xff\xd8"
        + segment(0xC3, frame)
        + segment(0xC4, table)
        + segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
        + scan
        + b"\xff\xd9"
    )


def turns() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 48 ways in which the axes of a volume can lie: permutation and signs."""
    return list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
