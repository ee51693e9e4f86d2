"""Files in, files out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from chiasm.atomic import write_csv
from chiasm.cohort.store import Cohort, CohortLike, listed
from chiasm.errors import CohortError, InputError
from chiasm.formats.cells import reason
from chiasm.prediction.phrases import ground
from chiasm.prediction.predictor import AT_ONCE, Predictor, load_predictor
from chiasm.prediction.read import name_of, read_study
from chiasm.prediction.write import Writer, Written, write_boxes
from chiasm.run.folder import RunLike, folder_of
from chiasm.study import Prediction, Study

Input = CohortLike
"""A file, a study folder, or a cohort; a cohort may be open."""


def predict_inputs(
    run: RunLike,
    inputs: Input | Sequence[Input],
    out: Path | str,
    *,
    report: Path | str | None = None,
    record: Path | str | None = None,
    strict: bool = False,
) -> list[Prediction]:
    """What `answer_inputs` writes, as predictions."""
    return [each.prediction for each in answer_inputs(run, inputs, out, report=report, record=record, strict=strict)]


def answer_inputs(
    run: RunLike,
    inputs: Input | Sequence[Input],
    out: Path | str,
    *,
    report: Path | str | None = None,
    record: Path | str | None = None,
    strict: bool = False,
    phrases: Sequence[str] = (),
) -> list[Written]:
    """Answer files, study folders or cohorts, and write one JSON and one page a study and one overlay PNG per located image.

    Args:
        inputs: one or several: an image, a DICOM or NIfTI file; a study folder (images/, report.txt, record.json); a cohort.
        report, record: a text file and a JSON file that belong to the one study among `inputs`.
        strict: refuse studies that are unlike the training data; the others are answered and written first.
        phrases: to be found on the images; where they lie stands in `heads["phrases"]` of each answer.

    Returns:
        the predictions and what was written: files and folders first, then cohorts, by study id within each.
        `out/rejected.csv` lists the inputs that were not taken, `out/boxes.csv` every predicted box, where the run has maps.

    Raises:
        InputError: no input could be taken (of several; the fault of a single one is raised as it is), `report` or `record`
            come with several inputs or a cohort, or `out` lies among the inputs; or, if strict, a study was refused.
            CohortError, RunError: see the message.
    """
    run, out = folder_of(run), Path(out)
    report, record = (None if path is None else Path(path) for path in (report, record))
    asked = list(dict.fromkeys(each if isinstance(each, Cohort) else Path(each) for each in listed(inputs)))
    cohorts = [each for each in asked if isinstance(each, Cohort) or (each / "cohort.json").is_file()]
    files = [each for each in asked if not isinstance(each, Cohort) and each not in cohorts]
    paths = [each.path if isinstance(each, Cohort) else each for each in asked]
    if (report or record) and (len(asked) != 1 or cohorts):
        raise InputError(
            "--report and --record belong to one study",
            expected="one image or study folder",
            got="a cohort" if len(asked) == 1 else f"{len(asked)} inputs",
            remedy="put each study in a folder: images/, report.txt, record.json",
        )
    _check_out(out, [*paths, *filter(None, (report, record))])
    predictor = load_predictor(run, strict=strict)
    rejects = _Rejects(alone=len(asked) == 1)
    answered: list[Written] = []
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(run, out, predictor.plan.text_sections)
    for cohort, row, prediction in chain(
        _answer_files(predictor, files, report, record, rejects), _answer_cohorts(predictor, cohorts, rejects)
    ):
        try:
            predictor.check(prediction)
        except InputError as error:
            rejects.refuse(prediction.study_id, error)
            continue
        if phrases:
            found = [ground(prediction, phrase).to_json() for phrase in phrases]
            prediction = replace(prediction, heads={**prediction.heads, "phrases": found})
        answered.append(writer.write(prediction, cohort, row))
    if any(each.prediction.maps for each in answered):
        write_boxes([each.prediction for each in answered], out / "boxes.csv")
    rejects.write(out / "rejected.csv")
    rejects.raise_refused(len(answered), out / "rejected.csv")
    if not answered:
        raise InputError(
            "none of the inputs could be taken", got=f"{len(rejects.rows)} inputs", where=str(out / "rejected.csv")
        )
    return answered


@dataclass
class _Rejects:
    """Of several inputs, one that cannot be taken is written down and not the end of the others."""

    alone: bool
    rows: list[tuple[str, str]] = field(default_factory=list)
    refused: list[InputError] = field(default_factory=list)

    @contextmanager
    def take(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (InputError, CohortError) as error:
            if self.alone:
                raise
            self.rows.append((str(path), reason(error)))

    def refuse(self, study: str, error: InputError) -> None:
        """Write down a study that is unlike the training data; the others are answered first."""
        self.refused.append(error)
        self.rows.append((study, reason(error)))

    def raise_refused(self, answered: int, file: Path) -> None:
        """
        Raises:
            InputError: a study was refused: its own fault where it was the only one.
        """
        if not self.refused:
            return
        if not answered and len(self.refused) == 1:
            raise self.refused[0]
        raise InputError(
            f"{len(self.refused)} studies are unlike the training data and were not answered",
            got=f"{answered} others were answered",
            where=str(file),
            remedy="read there in what they are unlike it, or predict without --strict",
        )

    def write(self, path: Path) -> None:
        write_csv(path, [("where", "reason"), *self.rows])


def _check_out(out: Path, inputs: Sequence[Path]) -> None:
    """What is written has the names of what is read: it must not lie beside it.

    Raises:
        InputError: `out` holds an input file, or lies in an input folder.
    """
    here = out.resolve()
    for path in (path.resolve() for path in inputs):
        if here.is_relative_to(path) or (path.is_file() and here == path.parent):
            raise InputError(
                "the output folder holds an input, which could be overwritten",
                where=str(out),
                remedy="choose another --out",
            )


def _answer_files(
    predictor: Predictor, paths: Sequence[Path], report: Path | None, record: Path | None, rejects: _Rejects
) -> Iterator[tuple[Cohort, int, Prediction]]:
    """The prediction of each input, by study id, and the study as it was looked at: a cohort, and the row in it.

    A study bears its file's name, or, where several have one name, its path.
    """
    shared = Counter(name_of(path) for path in paths)
    called = {path: path.as_posix() if shared[name_of(path)] > 1 else name_of(path) for path in paths}
    order = sorted(paths, key=called.__getitem__)
    for start in range(0, len(order), AT_ONCE):
        brought: list[_Brought] = []
        for path in order[start : start + AT_ONCE]:
            with rejects.take(path):
                study, unread = read_study(path, predictor.plan, report, record)
                brought.append(_Brought(path, predictor.bring(_renamed(study, called[path])), unread))
        for own, prediction in _answer_together(predictor, brought, rejects):
            yield own.cohort, 0, replace(prediction, ignored=(*own.unread, *prediction.ignored))


class _Brought(NamedTuple):
    """An input as it was read, and a sentence for each part of it that the model does not read."""

    path: Path
    cohort: Cohort
    unread: tuple[str, ...]


def _answer_together(
    predictor: Predictor, brought: Sequence[_Brought], rejects: _Rejects
) -> list[tuple[_Brought, Prediction]]:
    """The predictions of some inputs; where one of them does not fit the model, each is asked alone."""
    try:
        return list(zip(brought, predictor.over([own.cohort for own in brought]), strict=True))
    except CohortError:
        answered = []
        for own in brought:
            with rejects.take(own.path):
                answered += [(own, prediction) for prediction in predictor.over([own.cohort])]
        return answered


def _answer_cohorts(
    predictor: Predictor, cohorts: Sequence[Cohort | Path], rejects: _Rejects
) -> Iterator[tuple[Cohort, int, Prediction]]:
    """The prediction of every study of every cohort."""
    for each in cohorts:
        with rejects.take(each.path if isinstance(each, Cohort) else each):
            cohort = Cohort.open_unchanged(each)
            for row, prediction in enumerate(predictor.over([cohort])):
                yield cohort, row, prediction


def _renamed(study: Study, name: str) -> Study:
    """The study and its images under another name."""
    if name == study.study_id:
        return study
    own = len(study.study_id)
    images = tuple(replace(image, image_id=name + image.image_id[own:]) for image in study.images)
    return replace(study, study_id=name, patient_id=name, images=images)
