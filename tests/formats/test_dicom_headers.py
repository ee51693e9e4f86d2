"""What headers say: view, body part, pixel pitch, and the places of frames."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom_object, save
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from chiasm.errors import ImageError
from chiasm.formats.dicom import read_dicom, read_series
from chiasm.formats.dicom_headers import body_part_of, pixel_spacing, view_of
from chiasm.formats.intensity import Intensity
from chiasm.study import Values, View


def as_bytes(data: Dataset) -> bytes:
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, ((), "")),
        ({"PixelSpacing": [0.2, 0.1], "Modality": "CT"}, ((0.2, 0.1), "patient")),
        ({"PixelSpacing": [0.2, 0.1]}, ((0.2, 0.1), "unstated")),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, ((0.2, 0.2), "detector")),
        ({"PixelSpacing": [0.18, 0.18], "ImagerPixelSpacing": [0.2, 0.2]}, ((0.18, 0.18), "calibrated")),
        ({"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}, ((0.2, 0.2), "calibrated")),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, ((0.2, 0.3), "detector")),
        ({"ImagerPixelSpacing": [0.2, 0.3], "EstimatedRadiographicMagnificationFactor": 2}, ((0.1, 0.15), "patient")),
        ({"NominalScannedPixelSpacing": [0.1, 0.1]}, ((0.1, 0.1), "film")),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.3]}, ((0.2, 0.3), "detector")),
    ],
)
def test_pixel_spacing(elements: dict[str, object], expected: tuple[tuple[float, ...], str]) -> None:
    data = dicom_object(np.zeros((2, 3), np.uint8), **elements)
    assert pixel_spacing(data) == expected
    assert read_dicom(as_bytes(data)).geometry.spacing_mm == expected[0]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ViewPosition": "PA"}, View.PA),
        ({"ViewPosition": "ap "}, View.AP),
        ({"ViewPosition": "LL"}, View.LATERAL),
        ({"ViewPosition": "LATERAL", "Modality": "DX", "BodyPartExamined": "CHEST"}, View.LATERAL),
        ({"ViewPosition": "LLO"}, View.OTHER),
        ({"ViewPosition": ""}, View.OTHER),
        ({}, View.OTHER),
        ({"ViewPosition": "PA", "BodyPartExamined": "HAND"}, View.OTHER),
        ({"ViewPosition": "AP", "Modality": "CT"}, View.OTHER),
    ],
)
def test_view_position(elements: dict[str, object], expected: View) -> None:
    assert view_of({"Modality": "CR", **elements}) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("CHEST", "CHEST"),
        ("thorax", "CHEST"),
        ("LUNGS", "CHEST"),
        (" knee ", "KNEE"),
        ("C  SPINE", "C SPINE"),
        ("", ""),
    ],
)
def test_body_part(said: str, expected: str) -> None:
    assert body_part_of({"BodyPartExamined": said}) == expected


def test_body_part_of_an_image() -> None:
    pixels = np.zeros((2, 3), np.uint8)
    assert read_dicom(as_bytes(dicom_object(pixels, BodyPartExamined="HEAD"))).body_part == "HEAD"
    assert read_dicom(as_bytes(dicom_object(pixels))).body_part == ""


@pytest.mark.parametrize(
    ("meaning", "expected"),
    [
        ("postero-anterior", View.PA),
        ("Antero-posterior", View.AP),
        ("left lateral", View.LATERAL),
        ("left lateral decubitus", View.OTHER),
        ("medio-lateral oblique", View.OTHER),
    ],
)
def test_view_code(meaning: str, expected: View) -> None:
    code = Dataset()
    code.CodeMeaning = meaning
    assert view_of(dicom_object(np.zeros((2, 3), np.uint8), ViewCodeSequence=[code])) is expected


# --- one file that holds a volume ---------------------------------------------------------------------------------------


def item(**elements: object) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


RAMP = np.stack([np.full((4, 3), 1000 + 10 * n, np.int16) for n in range(5)])
TOP = {"ImagePositionPatient": [0, 0, 100], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.4, 0.3]}
HU = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 500, "WindowWidth": 3000}


@pytest.mark.parametrize(
    ("elements", "expected", "step"),
    [
        ({**TOP, "SpacingBetweenSlices": 0.6, "SliceThickness": 5}, [0, 10, 20, 30, 40], 0.6),
        ({**TOP, "SliceThickness": 0.3}, [0, 10, 20, 30, 40], 0.3),
        ({**TOP, "SpacingBetweenSlices": -2}, [40, 30, 20, 10, 0], 2),
        ({**TOP, "ImageOrientationPatient": [1, 0, 0, 0, -1, 0], "SliceThickness": 2}, [40, 30, 20, 10, 0], 2),
        ({**TOP, "GridFrameOffsetVector": [0, 3, 6, 9, 12], "SliceThickness": 1}, [0, 10, 20, 30, 40], 3),
    ],
)
def test_a_classic_file_with_its_place_at_the_top_is_a_volume_of_hu(
    elements: dict[str, object], expected: list[int], step: float
) -> None:
    """Cone-beam CT: frames follow the normal; the lowest comes first."""
    image = read_dicom(as_bytes(dicom_object(RAMP, Modality="CT", NumberOfFrames=5, **HU, **elements)))
    assert image.pixels[:, 0, 0].tolist() == expected
    assert image.values is Values.MODALITY
    np.testing.assert_allclose(image.geometry.spacing_mm, (step, 0.4, 0.3), rtol=1e-5)
    lowest = min(100, 100 + step * 4 * (1 if expected[0] == 0 else -1))
    assert np.array(image.geometry.affine).reshape(4, 4)[2, 3] == pytest.approx(lowest)


def test_nuclear_tomography_has_its_place_in_its_detector() -> None:
    place = item(ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    given = {"DetectorInformationSequence": [place], "PixelSpacing": [4, 4], "SpacingBetweenSlices": 4}
    data = dicom_object(RAMP.astype(np.uint16), Modality="NM", NumberOfFrames=5, **given)
    data.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    image = read_dicom(as_bytes(data))
    assert image.geometry.spacing_mm == pytest.approx((4, 4, 4))
    assert image.pixels[:, 0, 0].tolist() == RAMP[:, 0, 0].tolist()


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": "CT"},
        {"Modality": "MR", "PixelSpacing": [1, 1], "SliceThickness": 3},
        {"Modality": "PT", **{k: v for k, v in TOP.items() if k != "PixelSpacing"}, "SliceThickness": 3},
        {"Modality": "CT", **TOP},
        {"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.2"},
        {"Modality": "NM", "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO"]},
    ],
)
def test_a_stack_without_a_place_is_refused_and_never_a_picture(elements: dict[str, object]) -> None:
    with pytest.raises(ImageError, match="without their places"):
        read_dicom(as_bytes(dicom_object(RAMP, NumberOfFrames=5, **elements)))


def functional(frames: int, *, shared: dict[str, object], own: list[dict[str, object]]) -> dict[str, object]:
    """The functional groups of an enhanced object, each of one macro."""
    return {
        "NumberOfFrames": frames,
        "SharedFunctionalGroupsSequence": [item(**{k: [item(**v)] for k, v in shared.items()})],
        "PerFrameFunctionalGroupsSequence": [item(**{k: [item(**v)] for k, v in each.items()}) for each in own],
    }


SHARED = {
    "PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.25], "SliceThickness": 1},
    "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    "PixelValueTransformationSequence": {"RescaleIntercept": -1000, "RescaleSlope": 1, "RescaleType": "HU"},
    "FrameVOILUTSequence": {"WindowCenter": 40, "WindowWidth": 80},
}


def test_an_enhanced_object_of_one_frame_is_read_by_its_functional_groups() -> None:
    """As a classic slice is: in HU under CT's rule, through its window where the rule is another."""
    stored = (np.arange(64).reshape(8, 8) * 32).astype(np.uint16)
    groups = functional(1, shared=SHARED, own=[{"PlanePositionSequence": {"ImagePositionPatient": [0, 0, 0]}}])
    content = as_bytes(dicom_object(stored[None], Modality="CT", **groups))
    image = read_dicom(content)
    assert image.geometry.spacing_mm == (0.5, 0.25)
    assert image.values is Values.MODALITY
    np.testing.assert_array_equal(image.pixels, stored.astype(int) - 1000)
    shown = read_dicom(content, intensity=Intensity.parse({"CT": "percentile"}))
    window = np.rint(np.clip((stored - 1000.0 - 39.5) / 79 + 0.5, 0, 1) * 255)
    np.testing.assert_array_equal(shown.pixels, window)


def test_a_vendors_private_groups_do_not_speak_for_a_frame() -> None:
    stored = np.full((1, 4, 4), 1050, np.uint16)
    groups = functional(1, shared=SHARED, own=[{"PlanePositionSequence": {"ImagePositionPatient": [0, 0, 0]}}])
    data = dicom_object(stored, Modality="CT", **groups)
    private = data.PerFrameFunctionalGroupsSequence[0].private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    private.add_new(0x0F, "SQ", [item(RescaleSlope=7, RescaleIntercept=5, PixelSpacing=[9, 9])])
    image = read_dicom(as_bytes(data))
    assert image.pixels.ravel()[0] == 50 and image.geometry.spacing_mm == (0.5, 0.25)


def test_an_enhanced_object_of_several_volumes_is_refused_by_what_tells_them_apart() -> None:
    own = [
        {
            "PlanePositionSequence": {"ImagePositionPatient": [0, 0, 3 * (n % 4)]},
            "MREchoSequence": {"EffectiveEchoTime": 5.0 * (1 + n // 4)},
            "FrameContentSequence": {"TemporalPositionIndex": 1 + n // 4},
        }
        for n in range(8)
    ]
    shared = {k: v for k, v in SHARED.items() if k != "FrameVOILUTSequence"}
    data = dicom_object(np.zeros((8, 4, 4), np.uint16), Modality="MR", **functional(8, shared=shared, own=own))
    with pytest.raises(ImageError, match="several volumes in one series") as caught:
        read_dicom(as_bytes(data))
    assert "2 volumes" in caught.value.got and "echo" in caught.value.got


# --- Siemens mosaics ----------------------------------------------------------------------------------------------------


def csa(**fields: tuple[str, list[str]]) -> bytes:
    """A private header of the form CSA2 ("SV10"): name -> value representation and texts."""
    out = b"SV10" + bytes([4, 3, 2, 1]) + struct.pack("<II", len(fields), 77)
    for name, (vr, values) in fields.items():
        out += name.encode().ljust(64, b"\0") + struct.pack("<i", len(values)) + vr.encode().ljust(4, b"\0")
        out += struct.pack("<iii", 3, 6, 77)
        for text in [*values, *[""] * (6 - len(values))]:
            raw = text.encode() + b"\0" if text else b""
            out += struct.pack("<4i", len(raw), len(raw), 77, len(raw)) + raw + bytes(-len(raw) % 4)
    return out


def mosaic(normal: tuple[float, float, float] = (0, 0, 1), **elements: object) -> Dataset:
    """Five slices of 4 x 4 in a mosaic of 3 x 3; slice n is 100 n."""
    tiles = np.zeros((3, 3, 4, 4), np.uint16)
    for n in range(5):
        tiles[n // 3, n % 3] = 100 * n + np.arange(16).reshape(4, 4)
    picture = tiles.transpose(0, 2, 1, 3).reshape(12, 12)
    given = {"PixelSpacing": [2, 2], "SpacingBetweenSlices": 3, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    data = dicom_object(picture, Modality="MR", ImagePositionPatient=[-20, -30, 7], **(given | elements))
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    block = data.private_block(0x29, "SIEMENS CSA HEADER", create=True)
    block.add_new(
        0x10,
        "OB",
        csa(
            NumberOfImagesInMosaic=("US", ["5"]),
            AcquisitionMatrixText=("SH", ["4*4"]),
            SliceNormalVector=("FD", [f"{x:.6f}" for x in normal]),
        ),
    )
    return data


def test_a_mosaic_is_the_volume_of_its_slices_with_its_place() -> None:
    image = read_dicom(as_bytes(mosaic()))
    assert image.pixels.shape == (5, 4, 4) and image.geometry.spacing_mm == (3, 2, 2)
    # rows run to posterior and columns to the left, so both turn around
    first = np.arange(16).reshape(4, 4)[::-1, ::-1]
    for n in range(5):
        np.testing.assert_array_equal(image.pixels[n], first + 100 * n)
    # the first voxel of the first slice: the mosaic's corner, moved by half of what the mosaic is larger than a slice
    corner = np.array([-20 + 2 * 4, -30 + 2 * 4, 7.0]) * [-1, -1, 1]
    affine = np.array(image.geometry.affine).reshape(4, 4)
    np.testing.assert_allclose((affine @ [0, 3, 3, 1])[:3], corner, atol=1e-4)


def test_the_slices_of_a_mosaic_follow_its_normal() -> None:
    image = read_dicom(as_bytes(mosaic(normal=(0, 0, -1))))
    assert [int(plane.min()) for plane in image.pixels] == [400, 300, 200, 100, 0]


def test_a_mosaic_that_does_not_say_how_its_slices_lie_is_refused() -> None:
    data = mosaic()
    del data[0x0029, 0x1010]
    with pytest.raises(ImageError, match="mosaic of slices"):
        read_dicom(as_bytes(data))


def test_many_mosaics_of_one_series_are_several_volumes(tmp_path: Path) -> None:
    uid = generate_uid()
    paths = [save(mosaic(SeriesInstanceUID=uid), tmp_path / f"{n}.dcm") for n in range(3)]
    with pytest.raises(ImageError, match="several volumes in one series"):
        read_series(paths)
