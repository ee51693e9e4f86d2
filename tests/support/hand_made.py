"""Hand-made studies."""

from __future__ import annotations

import numpy as np

from chiasm.geometry import Geometry
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Report, State, Study, View


def an_image(name: str, shape: tuple[int, ...] = (40, 30), seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return Image(name, pixels, Geometry.identity(shape), View.PA, "DX", f"images/{name}.png")


def a_study(number: int, **changes: object) -> Study:
    """Study s<n> of patient p<n // 2>, with one of everything."""
    values: dict[str, object] = {
        "study_id": f"s{number:03}",
        "patient_id": f"p{number // 2:03}",
        "images": (an_image(f"i{number:03}", seed=number),),
        "report": Report({"history": f"cough {number}", "findings": "No effusion."}),
        "record": Record({"age_years": 20.0 + number, "sex": "fm"[number % 2]}),
        "findings": (
            Finding("pneumonia", State.PRESENT if number % 2 else State.ABSENT, reader="a"),
            Finding("edema", State.UNCERTAIN, reader="a"),
        ),
        "regions": (Region("pneumonia", f"i{number:03}", (2.0, 4.0, 20.0, 30.0), reader="b"),) if number % 2 else (),
        "outcomes": (
            Outcome("died", float(number % 3 == 0)),
            Outcome("score", number / 2, Kind.REGRESSION, "severity"),
        ),
    }
    return Study(**{**values, **changes})  # type: ignore[arg-type]
