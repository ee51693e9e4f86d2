"""Calibrations by hand."""

from typing import Any

from chiasm.run.answers import Calibration, Fit, LabelFit


def calibration_of(targets: dict[str, dict[str, dict[str, Any]]]) -> Calibration:
    """Of target -> label -> what was fitted, and under "shown" what was for studies that show certain inputs."""
    return Calibration(
        {target: {label: _fit(**raw) for label, raw in fits.items()} for target, fits in targets.items()}
    )


def _fit(shown: dict[str, dict[str, float]] | None = None, **raw: float) -> LabelFit:
    return LabelFit(**raw, shown={inputs: Fit(**own) for inputs, own in (shown or {}).items()})
