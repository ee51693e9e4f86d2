"""Studies in, predictions out, in memory: what the command line, a server and a worker call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from chiasm.cohort.preprocessing import Preprocessing
from chiasm.cohort.store import Cohort, cohort_from_studies
from chiasm.encoding.plan import Plan
from chiasm.errors import InputError, RunError
from chiasm.prediction.read import Values, Words, study_of
from chiasm.progress import Progress
from chiasm.run.ensemble import predict_together
from chiasm.run.fold_model import FoldModel, load_fold_models
from chiasm.run.folder import RunLike, folder_of, read_run
from chiasm.run.notes import find_notes, has_check, prepare_check
from chiasm.runtime.torch import Memo
from chiasm.study import About, Note, Prediction, Study, shorten

Given = Study | NDArray[np.generic] | Pillow.Image
"""A study, or an image in memory."""
AT_ONCE = 64
"""Studies that are answered together: memory does not grow with their number."""


class Predictor:
    """The models of a run, loaded once, as a function of studies.

    It reads and writes no file and keeps nothing of what it answers, so several threads may call it at once.

    Attributes:
        plan: what the models read of a study, all of them taken together.
        notes: what users must know of the cohorts that the models learned from; every prediction bears them.
        strict: refuse a study that is unlike the training data.
    """

    def __init__(self, fold_models: Sequence[FoldModel], notes: Sequence[str] = (), *, strict: bool = False) -> None:
        """
        Raises:
            RunError: `strict`, and a model cannot tell what is unlike its training data.
        """
        self.fold_models, self.strict = tuple(fold_models), strict
        self.notes = tuple(Note(About.DATA, text) for text in notes)
        prepare_check(self.fold_models)
        if strict and not has_check(self.fold_models):
            raise RunError(
                "the run cannot tell a study that is unlike its training data",
                expected="novelty.json beside the weights of each model",
                got="a run that was trained before there was this check",
                remedy="train again, or predict without --strict",
            )
        self.plan = _joint([fold_model.plan for fold_model in fold_models])

    def __repr__(self) -> str:
        models, plan = len(self.fold_models), self.plan
        reads = {
            "images": plan.image_shape,
            "reports": plan.text_sections,
            "records": (*plan.numeric, *plan.categories),
        }
        said = (
            f"reads {', '.join(what for what, there in reads.items() if there)}; answers {shorten(list(plan.targets))}"
        )
        return f"<Predictor of {models} model{'s' * (models > 1)}: {said}>"

    def __call__(self, study: Given, *, report: Words = None, record: Values = None) -> Prediction:
        """The answer to one study; what of it the models do not read stands in `ignored`.

        Args:
            study: a `Study`; or an image, as an array [H, W], [H, W, 3] of colours or [D, H, W], or a picture of Pillow.
            report: of it, a text, its sections by name, or a `Report`. record: of it, column -> value, or a `Record`.

        Raises:
            InputError: it holds nothing, or something of it cannot be read; or, if strict, it is unlike the training data.
            CohortError: it does not fit the models, such as a volume beside their atlas, or words in a column of numbers.
        """
        read, unread = study_of(study, self.plan, report, record)
        (answer,) = self.batch([read])
        return replace(answer, ignored=(*unread, *answer.ignored))

    def batch(self, studies: Iterable[Given], *, progress: bool = False) -> list[Prediction]:
        """The answer to each study, in their order. What they hold of the truth (findings, regions, outcomes) is not looked at.

        Args:
            studies: as of one study; they are taken some at a time. progress: show how many are answered.

        Raises:
            InputError, CohortError: as of one study; none is answered then.
        """
        predictions: list[Prediction] = []
        count, rest = (len(studies) if isinstance(studies, Sized) else None), iter(studies)
        with Progress("predicting", count) if progress else nullcontext() as bar:
            while part := [study_of(given, self.plan, None, None)[0] for given in islice(rest, AT_ONCE)]:
                answers = self.over([self.bring(study) for study in part])
                for study, answer in zip(part, answers, strict=True):
                    self.check(answer)
                    predictions.append(replace(answer, ignored=(*_unread(study, self.plan), *answer.ignored)))
                if bar is not None:
                    bar.advance(len(part))
        return predictions

    def bring(self, study: Study) -> Cohort:
        """A study as a cohort of its own, in memory: its images prepared as import prepared those that the models learned from.

        Raises:
            InputError: it holds nothing, or something of it cannot be read.
        """
        seen = Study(study.study_id, study.patient_id, study.images, study.report, study.record, facts=study.facts)
        prepared = Preprocessing.from_dict(self.plan.preprocessing)
        return cohort_from_studies([seen], split="hash", strict=True, **prepared.arguments())

    def check(self, prediction: Prediction) -> None:
        """Refuse, if strict, what was said of a study that is unlike the training data.

        Raises:
            InputError: it is; the message tells each thing.
        """
        unlike = [note.text for note in prediction.notes if note.unlike]
        if self.strict and unlike:
            raise InputError(
                "the study is unlike the training data",
                got="; ".join(unlike),
                remedy="give the model a study of the kind that it was trained on, or predict without --strict",
            )

    def over(self, cohorts: Sequence[Cohort]) -> Iterator[Prediction]:
        """The answer to every study of cohorts, one cohort after another, some studies at a time. No study is refused (`check`).

        Raises:
            CohortError: a cohort does not fit the models.
        """
        if not cohorts:
            return
        memo: Memo = {}
        fold_models = [fold_model.over(cohorts, memo=memo) for fold_model in self.fold_models]
        count = len(fold_models[0].loader)
        for start in range(0, count, AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, count))
            for prediction, found in zip(
                predict_together(fold_models, rows), find_notes(fold_models, rows), strict=True
            ):
                yield replace(prediction, notes=(*self.notes, *found, *prediction.notes))


def load_predictor(run: RunLike, *, strict: bool = False) -> Predictor:
    """Load a finished run once, to answer any number of studies.

    Args:
        strict: refuse a study that is unlike the training data, in place of a note.

    Raises:
        RunError: no run, an unfinished or a damaged one; or, if strict, one that cannot tell.
    """
    run = folder_of(run)
    return Predictor(load_fold_models(run), read_run(run).data_notes, strict=strict)


def _unread(study: Study, plan: Plan) -> list[str]:
    """A sentence for each part of a study that the models do not read."""
    kinds = {0: "no images", 2: "a single image", 3: "a volume"}
    wanted = len(plan.image_shape or ())
    unread = [
        f"image {image.image_id}: {kinds[len(image.geometry.shape)]}, the model reads {kinds[wanted]}"
        for image in study.images
        if len(image.geometry.shape) != wanted
    ]
    sections = [name for name, text in study.report.sections.items() if text.strip()] if study.report else []
    if other := [name for name in sections if name not in plan.text_sections]:
        unread.append(f"report: {', '.join(other)}; the model reads {', '.join(plan.text_sections) or 'none'}")
    given = {name: value for name, value in study.record.values.items() if value is not None} if study.record else {}
    columns = (*plan.numeric, *plan.categories)
    if other := [name for name in given if name not in columns]:
        unread.append(f"record: {', '.join(other)}; the model reads {', '.join(columns) or 'none'}")
    for name, words in plan.categories.items():
        if name in given and given[name] not in words:
            unread.append(f"record: {name} is none of the words {', '.join(words)}")
    return unread


def _joint(plans: Sequence[Plan]) -> Plan:
    """The plan of the first model, with all that the others know of records, sections and words."""
    first = plans[0]
    columns = dict.fromkeys(name for plan in plans for name in plan.categories)
    return replace(
        first,
        image_shape=next((plan.image_shape for plan in plans if plan.image_shape), None),
        numeric={name: scale for plan in reversed(plans) for name, scale in plan.numeric.items()},
        categories={c: tuple(dict.fromkeys(w for p in plans for w in p.categories.get(c, ()))) for c in columns},
        text_sections=tuple(dict.fromkeys(name for plan in plans for name in plan.text_sections)),
    )
