"""The phantom chest: studies made by a model whose truth is known, to test and demonstrate the whole road.

Lesions of several kinds are drawn into a chest radiograph (their masks are the truth of localization), named in a report
with omissions, hedges and words that mislead, and listed as findings. The outcome `event` rests on three latents that
image, report and record reveal separately, so that the best any model can reach from each subset of the modalities
is known (`Study.bayes`). See `chiasm.domains.chest.outcome`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chiasm.domains.chest.anatomy import Body, Rng, draw_body, draw_frame
from chiasm.domains.chest.lesions import CARDIOMEGALY, KINDS, PREVALENCE, draw_lesions
from chiasm.domains.chest.outcome import VITALS, Latents, bayes, blocks
from chiasm.domains.chest.projection import lung_base, render_lateral, render_pa
from chiasm.domains.chest.report import Truth, write_report
from chiasm.errors import InputError
from chiasm.geometry import Geometry
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Outcome, Record, Region, State, Study, View

ABOUT = "chest radiographs, reports and records made by a model with known truth and known best AUROC"
READER = "phantom"
FIELD_MM = 400.0  # what a film's side measures

_SAME_PATIENT_SHARE = 0.35  # of the pairs of studies (0, 1), (2, 3), ...
_LATERAL_SHARE = 1 / 3
_UNKNOWN_SHARE = 0.03  # of age and sex
_PATIENT, _STUDY, _REPORT = 1, 2, 3  # streams of random numbers beside that of the latents, 0


def read(
    path: Path | None = None, *, studies: int = 600, size: int = 128, seed: int = 0, missing: float = 0.0
) -> Iterator[Study]:
    """Make the studies one by one; study i is the same however many are made.

    Args:
        path: nothing is read: leave it out.
        studies: how many to make. size: side of the square images in pixels.
        seed: of everything that is drawn.
        missing: share of studies without a report and, independently, without a record; changes nothing else.

    Raises:
        InputError: a path is given or an option is out of range.
    """
    if path is not None:
        raise InputError("phantom-chest makes its studies and reads no folder", got="a path", remedy="leave it out")
    for name, value, low, high in (
        ("studies", studies, 1, 10**7),
        ("size", size, 32, 4096),
        ("missing", missing, 0, 1),
    ):
        if not low <= value <= high:
            raise InputError(
                f"phantom-chest cannot take the option {name}", expected=f"a number in [{low}, {high}]", got=str(value)
            )
    if seed < 0:
        raise InputError("phantom-chest cannot take the option seed", expected="a number of at least 0", got=str(seed))
    return islice(
        chain.from_iterable(_make_block(b, block, size, seed) for b, block in enumerate(blocks(seed, missing))), studies
    )


def _make_block(number: int, latents: Latents, size: int, seed: int) -> Iterator[Study]:
    """The studies of one block of latents."""
    posteriors = bayes(latents)
    for row in range(len(latents)):
        known = {subset: float(values[row]) for subset, values in posteriors.items()}
        yield _make_study(number * len(latents) + row, latents, row, known, size, seed)


def draw_patient(number: int, seed: int) -> tuple[str, Body, bool, bool]:
    """Whose study `number` is: patient_id, body, whether a lateral view is taken, whether it is the second study."""
    pair, second = divmod(number, 2)
    rng = np.random.default_rng([seed, pair, _PATIENT])
    same, patients = rng.random() < _SAME_PATIENT_SHARE, []
    for index in (2 * pair, 2 * pair + 1):
        patients.append((f"phantom-{seed}-{index:06d}", draw_body(rng), bool(rng.random() < _LATERAL_SHARE)))
    again = bool(second and same)
    return *patients[0 if again else second], again


def _make_study(number: int, latents: Latents, row: int, known: dict[str, float], size: int, seed: int) -> Study:
    patient_id, body, lateral, again = draw_patient(number, seed)
    study_id = f"phantom-{seed}-study-{number:06d}"
    rng = np.random.default_rng([seed, number, _STUDY])
    burden = float(latents.burden[row])
    enlarged = bool(rng.random() < PREVALENCE[CARDIOMEGALY])
    heart_share = rng.uniform(0.52, 0.66) if enlarged else body.heart_share
    lesions = draw_lesions(lung_base(burden), enlarged, rng)
    record = _make_record(latents, row, body, rng)

    pixels, masks, heart = render_pa(draw_frame(size, body, rng), body, burden, heart_share, lesions, rng)
    images = [_image(f"{study_id}-pa", pixels, View.PA)]
    if lateral:
        side = render_lateral(draw_frame(size, body, rng), body, burden, heart_share, lesions, rng)
        images.append(_image(f"{study_id}-lateral", side, View.LATERAL))
    regions = [_region(lesion.name, mask, images[0]) for lesion, mask in zip(lesions, masks, strict=True)]
    regions += [_region(CARDIOMEGALY, heart, images[0])] if enlarged else []

    writer = np.random.default_rng([seed, number, _REPORT])
    course = int(latents.course[row]) if latents.stated[row] else None
    prior = again or bool(writer.random() < 0.4)
    truth = Truth(body.age_years, body.sex, course, lesions, enlarged, prior)
    report, _ = write_report(truth, writer)
    return Study(
        study_id,
        patient_id,
        images=tuple(images),
        report=report if latents.reported[row] else None,
        record=record if latents.recorded[row] else None,
        findings=tuple(
            Finding(name, State.PRESENT if name in truth.present else State.ABSENT, reader=READER) for name in KINDS
        ),
        regions=tuple(regions),
        outcomes=(Outcome("event", float(latents.event[row]), reader=READER),),
        bayes=known,
    )


def _make_record(latents: Latents, row: int, body: Body, rng: Rng) -> Record:
    """Age, sex and vitals; None where it was not asked or not measured."""
    age_known, sex_known = rng.random(2) >= _UNKNOWN_SHARE
    values: dict[str, float | str | None] = {
        "age_years": float(body.age_years) if age_known else None,
        "sex": body.sex if sex_known else None,
    }
    for name, value, observed in zip(VITALS, latents.vitals[row], latents.observed[row], strict=True):
        values[name] = float(value) if observed else None
    return Record(values)


def _image(image_id: str, pixels: NDArray[np.uint8], view: View) -> Image:
    spacing = FIELD_MM / len(pixels)
    return Image(image_id, pixels, Geometry.identity(pixels.shape, (spacing, spacing)), view, dicom_modality="DX")


def _region(label: str, mask: NDArray[np.bool_], image: Image) -> Region:
    """A mask and the box around it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    return Region(label, image.image_id, box, mask, reader=READER)


SOURCE = Source("phantom-chest", ABOUT, read)
