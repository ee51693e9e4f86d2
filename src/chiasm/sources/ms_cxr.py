"""MS-CXR (Boecking et al. 2022): phrases with boxes on images of MIMIC-CXR, in the published layout.

    MS_CXR_Local_Alignment_v1.1.0.csv      dicom_id, category_name, label_text, x, y, w, h, image_width, image_height
    MS_CXR_Local_Alignment_v1.1.0.json     the same in the way of COCO: images, annotations, categories
    files/p10/p10000032/s50414267/...      MIMIC-CXR, with its tables (`chiasm.sources.mimic_cxr`)

Either file will do, of any version; where both are there the table is read. A phrase with several boxes is several rows. Boxes lie in
the frame of image_width x image_height, and follow the file where that was resized. Studies without a phrase are kept: `ms-cxr` is
MIMIC-CXR with regions.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from chiasm.errors import InputError
from chiasm.formats.cells import Row, find_table, read_rows
from chiasm.sources import mimic_cxr
from chiasm.sources.registry import Source
from chiasm.study import Box, Image, Region, Rejected, Study
from chiasm.vocabulary import canonical, snake_case

ABOUT = "MS-CXR: phrases with boxes on images of MIMIC-CXR, in one folder with it"
READER = "ms-cxr"
COLUMNS = ("dicom_id", "category_name", "label_text", "x", "y", "w", "h", "image_width", "image_height")
_NUMBERS = COLUMNS[3:]


class _Drawn(NamedTuple):
    """A row: where it stands, what it shows, and x, y, width and height in a frame (width, height)."""

    where: str
    label: str
    phrase: str
    box: tuple[float, float, float, float]
    frame: tuple[float, float]


def read(path: Path, *, label_from: str = "auto") -> Iterator[Study | Rejected]:
    """The studies of `chiasm.sources.mimic_cxr.read`, with a region for each box.

    Args:
        label_from: as there.

    Raises:
        InputError: no file of MS-CXR, or one that is no such file; and as there.
        TableError: the table lacks a column.
    """
    drawn: dict[str, list[_Drawn]] = defaultdict(list)
    for row in _rows(Path(path)):
        if isinstance(row, Rejected):
            yield row
        else:
            drawn[row[0]].append(row[1])
    for item in mimic_cxr.read(path, label_from=label_from):
        if isinstance(item, Study):
            regions = []
            for image in item.images:
                for own in drawn.pop(image.image_id, ()):
                    box = _placed(own, image)
                    if box is None:
                        yield Rejected(own.where, "the box lies outside the image or has no area")
                    else:
                        regions.append(Region(own.label, image.image_id, box, reader=READER, phrase=own.phrase))
            item = replace(item, regions=(*item.regions, *regions))
        yield item
    for lost in drawn.values():
        for own in lost:
            yield Rejected(own.where, "the image of the box is not there")


def _rows(path: Path) -> Iterator[tuple[str, _Drawn] | Rejected]:
    """(dicom_id, box) of each row of the table, or of each annotation of the JSON file."""
    if table := find_table(path, "MS_CXR_Local_Alignment*.csv", "MS_CXR_Local_Alignment*.csv.gz"):
        for row in read_rows(table, COLUMNS):
            yield row if isinstance(row, Rejected) else _of_row(row)
        return
    files = sorted(path.rglob("MS_CXR_Local_Alignment*.json"))
    if not files:
        expected = "MS_CXR_Local_Alignment_v1.1.0.csv or .json beside the tree of MIMIC-CXR"
        raise InputError("There is no file of MS-CXR", expected=expected, where=str(path))
    yield from _of_coco(files[-1])


def _of_row(row: Row) -> tuple[str, _Drawn] | Rejected:
    image, label, phrase = (row.text(name) for name in COLUMNS[:3])
    numbers = [row.number(name, 0, 1e5) for name in _NUMBERS]
    return _drawn(row.where, image, label, phrase, numbers)


def _of_coco(file: Path) -> Iterator[tuple[str, _Drawn] | Rejected]:
    try:
        content: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        images = {one["id"]: one for one in content["images"]}
        names = {one["id"]: one["name"] for one in content["categories"]}
        annotations = content["annotations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the file of MS-CXR cannot be read",
            expected="JSON with images, annotations and categories",
            got=type(error).__name__,
            where=str(file),
        ) from None
    for number, one in enumerate(annotations):
        where = f"{file.name}: annotation {number}"
        image = images.get(one.get("image_id"), {})
        name = Path(str(image.get("file_name") or image.get("path") or "")).stem
        numbers = [*one.get("bbox", ()), image.get("width"), image.get("height")]
        yield _drawn(where, name, names.get(one.get("category_id")), one.get("label_text"), numbers)


def _drawn(
    where: str, image: str | None, label: str | None, phrase: str | None, numbers: list[Any]
) -> tuple[str, _Drawn] | Rejected:
    if not (image and label and phrase):
        return Rejected(where, "the image, the category or the phrase is missing")
    if len(numbers) != len(_NUMBERS) or not all(isinstance(x, int | float) for x in numbers) or min(numbers[4:]) <= 0:
        return Rejected(where, "the box or the size of its image is no number")
    x, y, w, h, width, height = map(float, numbers)
    return image, _Drawn(where, canonical(label) or snake_case(label), phrase, (x, y, w, h), (width, height))


def _placed(drawn: _Drawn, image: Image) -> Box | None:
    """The box in pixels of the file, cut at its edges; None where nothing is left."""
    height, width = image.pixels.shape[-2:]
    across, down = width / drawn.frame[0], height / drawn.frame[1]
    x, y, w, h = drawn.box
    box = (
        max(0.0, x * across),
        max(0.0, y * down),
        min(float(width), (x + w) * across),
        min(float(height), (y + h) * down),
    )
    return box if box[0] < box[2] and box[1] < box[3] else None


SOURCE = Source("ms-cxr", ABOUT, read)
