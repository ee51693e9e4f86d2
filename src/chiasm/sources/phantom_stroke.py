"""The phantom stroke: 3-D MR volumes with one infarct each, a chart, and an outcome whose best prediction is known.

The infarct lies in one vascular group of a toy brain (its mask is the truth of localization, its group the finding), the
facts are measured as those of real lesions, and mRS rests on its size and place, on age, glucose and NIHSS, with
interactions. `Study.bayes` knows P(mRS > 2) given image, record, or both; a text written from the image can hold no more
than the image. See `chiasm.domains.stroke.outcome` and `chiasm.domains.stroke.brain`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from chiasm.domains.stroke.brain import SEQUENCES, Brain, build_brain, cut_planes, grow_lesion, render
from chiasm.domains.stroke.facts import MASK, StrokeAtlas, measure_flair, measure_lesion
from chiasm.domains.stroke.outcome import KINDS, PLACES, Latents, bayes, blocks
from chiasm.errors import InputError
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, State, Study

ABOUT = "3-D MR volumes of strokes, lesion masks and charts made by a model with known truth and known best AUROC"
READER = "phantom"
_STUDY, _RECORD = 1, 2  # streams of random numbers beside that of the latents, 0
_UNKNOWN_SEX_SHARE = 0.03


def read(
    path: Path | None = None,
    *,
    studies: int = 400,
    volume_size: Sequence[int] = (64, 64, 64),
    sequences: str | Sequence[str] = "flair",
    seed: int = 0,
    missing: float = 0.0,
) -> Iterator[Study]:
    """Make the studies one by one; study i is the same however many are made.

    Args:
        path: nothing is read: leave it out.
        studies: how many to make. volume_size: D, H, W in voxels; the voxel is the smallest cube that holds the brain.
        sequences: "flair", "dwi", "lesion-mask" (the infarct itself, as an expert would draw it), or several with commas
            between: a volume each.
        seed: of everything that is drawn.
        missing: share of studies without images and, independently, without a record; changes nothing else.

    Raises:
        InputError: a path is given or an option is out of range.
    """
    shape = tuple(volume_size)
    names = tuple(sequences.split(",")) if isinstance(sequences, str) else tuple(sequences)
    fits = {
        "path": (path is None, "none: the studies are made"),
        "studies": (1 <= studies <= 10**7, "a number in [1, 10000000]"),
        "volume_size": (len(shape) == 3 and all(24 <= n <= 256 for n in shape), "three numbers in [24, 256]"),
        "sequences": (
            0 < len(names) == len(set(names)) and set(names) <= {*SEQUENCES, MASK},
            " or ".join((*SEQUENCES, MASK)),
        ),
        "seed": (seed >= 0, "a number of at least 0"),
        "missing": (0 <= missing <= 1, "a number in [0, 1]"),
    }
    for option, (fit, expected) in fits.items():
        if not fit:
            raise InputError(f"phantom-stroke cannot take the option {option}", expected=expected)
    brain = build_brain((shape[0], shape[1], shape[2]))
    made = (_make_block(b, block, brain, names, seed) for b, block in enumerate(blocks(seed, missing)))
    return islice(chain.from_iterable(made), studies)


def find_atlas(*, volume_size: Sequence[int] = (64, 64, 64)) -> StrokeAtlas:
    """The toy atlas of the phantom's brain."""
    return build_brain((volume_size[0], volume_size[1], volume_size[2])).atlas


def _make_block(number: int, latents: Latents, brain: Brain, names: Sequence[str], seed: int) -> Iterator[Study]:
    posteriors = bayes(latents)
    for row in range(len(latents)):
        known = {subset: float(values[row]) for subset, values in posteriors.items()}
        yield _make_study(number * len(latents) + row, latents, row, known, brain, names, seed)


def _make_study(
    number: int, latents: Latents, row: int, known: dict[str, float], brain: Brain, names: Sequence[str], seed: int
) -> Study:
    study_id = f"stroke-{seed}-{number:06d}"
    place = PLACES[latents.place[row]]
    rng = np.random.default_rng([seed, number, _STUDY])
    lesion = grow_lesion(brain, place.territories, float(latents.volume_ml[row]), rng)
    volumes = {name: render(brain, lesion, name, rng) for name in SEQUENCES}  # both are drawn, whichever is kept
    volumes[MASK] = lesion.astype(np.uint8) * 255
    geometry, pictured = brain.atlas.geometry, bool(latents.pictured[row])
    images = tuple(
        Image(
            f"{study_id}-{name}",
            volumes[name],
            geometry,
            dicom_modality="SEG" if name == MASK else "MR",
            name=name if name == MASK else name.upper(),
        )
        for name in names
    )
    facts = measure_lesion(lesion, geometry, brain.atlas)
    facts |= measure_flair(lesion, geometry, cut_planes(brain, volumes["flair"]), brain.atlas)
    mrs, nihss = float(latents.mrs[row]), float(latents.nihss[row])
    return Study(
        study_id,
        study_id,
        images=images if pictured else (),
        record=_make_record(latents, row, np.random.default_rng([seed, number, _RECORD])),
        findings=tuple(
            Finding(kind, State.PRESENT if kind == place.name else State.ABSENT, reader=READER) for kind in KINDS
        ),
        regions=tuple(Region(place.name, i.image_id, mask=lesion, reader=READER) for i in images) if pictured else (),
        outcomes=(
            Outcome("mrs_gt_2", float(mrs > 2), reader=READER),
            Outcome("mrs", mrs, Kind.ORDINAL, "mrs", READER),
            Outcome("nihss", nihss, Kind.REGRESSION, "nihss", READER),
        ),
        bayes=known,
        facts=facts if pictured else {},
    )


def _make_record(latents: Latents, row: int, rng: np.random.Generator) -> Record | None:
    """Age, sex (which says nothing), NIHSS, glucose; None where it was not measured."""
    sex = "fm"[int(rng.integers(2))] if rng.random() >= _UNKNOWN_SEX_SHARE else None
    if not latents.recorded[row]:
        return None
    age, nihss, glucose = latents.observed[row]
    return Record(
        {
            "age_years": float(latents.age_years[row]) if age else None,
            "sex": sex,
            "nihss": float(latents.nihss[row]) if nihss else None,
            "glucose_mmol_l": float(latents.glucose_mmol_l[row]) if glucose else None,
        }
    )


SOURCE = Source("phantom-stroke", ABOUT, read, atlas=find_atlas)
