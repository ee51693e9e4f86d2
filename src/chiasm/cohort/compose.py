"""The writing of a text for each study of a cohort: finished ones are never asked for again."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from chiasm.cohort.generated import FILE, GeneratedTexts
from chiasm.cohort.store import Cohort, CohortLike, open_cohorts
from chiasm.errors import InputError, WriterError
from chiasm.progress import Progress
from chiasm.report.content import read_content, read_image_content
from chiasm.report.findings import LABELED_SECTIONS
from chiasm.report.masking import mask_identifiers
from chiasm.report.writers import TEXT_KINDS, Task, Writer, Written, open_writer
from chiasm.report.writers.ask import LONGEST_REPORT
from chiasm.study import Study

IN_A_ROW = 3
"""Studies without an answer after which the writer is treated as gone."""
_CAPITALS = 0.6  # share of capitals among letters, from which names cannot be told from other words

Waiting = dict[Future[Written], tuple[Study, Task]]


def write_texts(
    cohort: CohortLike,
    writer: Writer | str,
    kind: str = "structured-report",
    *,
    seed: int = 0,
    concurrency: int = 4,
    limit: int | None = None,
    pictures: int = 0,
) -> dict[str, int]:
    """Write a text a study into the cohort's texts.parquet, and return counts.

    A study is asked for again if facts, report, pictures, prompt, writer or seed are others than those of its text, or if
    the writer gave no answer. After an interruption what was written stands.

    Args:
        cohort: in a folder. writer: what writes, or its name as `chiasm write --writer` takes it: "template", "local:PATH".
        kind: "structured-report" or "image-description".
        concurrency: the most questions at a time (a model in this process takes one).
        limit: the most texts to write now. pictures: of each study, for an image description by a model that reads images.

    Returns:
        studies; finished (before); written (now); and of both together accepted, replaced (by the template's text),
        unanswered, and silent, of which nothing is known to write.

    Raises:
        InputError: no such kind, or pictures for a writer or a kind that has no use for them. CohortError: texts are damaged, or are being written by another process.
        WriterError: the writer refuses, or `IN_A_ROW` studies in a row got no answer; what was written before stands.
    """
    (cohort,) = open_cohorts(cohort, on_disk=True)
    writer = open_writer(writer, seed=seed) if isinstance(writer, str) else writer
    if kind not in TEXT_KINDS:
        raise InputError("there is no such kind of text", expected=" or ".join(TEXT_KINDS), got=kind)
    if pictures and not (writer.reads_images and kind == "image-description"):
        raise InputError(
            "the pictures would not be looked at",
            expected="an image-description by openai:MODEL@URL, a model that reads images",
            got=f"a {kind} by {writer.name}",
            remedy="leave --pictures out",
        )
    own = {"writer": writer.name, "model": writer.model, "prompt_hash": writer.prompt_hash(kind), "seed": seed}
    counts = Counter(studies=len(cohort))
    waiting: Waiting = {}
    failed = 0
    most, begun = min(concurrency, writer.parallel), time.monotonic()
    pool = ThreadPoolExecutor(most)
    with GeneratedTexts(cohort.path) as texts, Progress(f"writing {kind}", len(cohort)) as bar:

        def settle() -> None:
            nonlocal failed
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                (study, task), written = waiting.pop(future), future.result()
                row = _row(study, task, written, own)
                texts.add(row)
                failed = 0 if written.answered else failed + 1
                counts.update(("written", _outcome(row)))
                asked = counts["finished"] + counts["written"] - counts["silent"]
                todo = len(cohort) - counts["finished"] - counts["written"]
                todo = todo if limit is None else min(todo, limit - counts["written"])
                left = estimate(time.monotonic() - begun, counts["written"], todo)
                bar.advance(1, f"{counts['accepted']} of {asked} accepted{left}")
                if failed >= IN_A_ROW:
                    raise WriterError(
                        f"the writer gave no answer for {failed} studies in a row",
                        got=written.reason,
                        remedy="see that it works, then give the same command: what was written stands",
                    )

        try:
            for study, task in _tasks(cohort, kind, pictures):
                row = texts.rows.get((study.study_id, kind))
                if row is not None and _finished(row, own, task):
                    counts.update(("finished", _outcome(row)))
                    bar.advance()
                    continue
                if limit is not None and counts["written"] + len(waiting) >= limit:
                    break
                waiting[pool.submit(writer.write, task)] = (study, task)
                if len(waiting) >= most:
                    settle()
            while waiting:
                settle()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    names = ("studies", "finished", "written", "accepted", "replaced", "unanswered", "silent")
    return {name: counts[name] for name in names}


def estimate(seconds: float, done: int, todo: int) -> str:
    """ ", about 3 min left" of work that goes on as it has; "" of less than half a minute.

    >>> estimate(60.0, 4, 20), estimate(7200.0, 10, 50), estimate(3.0, 10, 10)
    (', about 5 min left', ', about 10 h left', '')
    """
    left = seconds / max(1, done) * todo
    if left < 30:
        return ""
    return f", about {left / 3600:.0f} h left" if left >= 5400 else f", about {max(1, round(left / 60))} min left"


_NOTHING_KNOWN = {
    "structured-report": "no finding in a report that the labeler reads, no label, no measurement",
    "image-description": "no region drawn in an image, no measurement; --pictures lets a model that reads images try",
}


def acceptance(counts: Mapping[str, int]) -> float | None:
    """The share of a writer's texts that were accepted, of the counts of `write_texts`; None if it has no text."""
    texts = counts["finished"] + counts["written"] - counts["silent"]
    return counts["accepted"] / texts if texts else None


def render_counts(counts: Mapping[str, int], kind: str, folder: Path) -> str:
    """The counts of `write_texts` as lines of text; `folder` is the cohort's."""
    texts, rate = counts["finished"] + counts["written"] - counts["silent"], acceptance(counts)
    lines = [
        f"{texts} of {counts['studies']} studies have a text of this writer in {folder / FILE}",
        f"studies processed now: {counts['written']}; done before: {counts['finished']}",
    ]
    lines += [f"accepted: {counts['accepted']} of {texts} ({rate:.0%})"] if rate is not None else []
    reasons = {
        "replaced": "have the template's text, because the writer's own differed from the facts, or could not be asked for",
        "unanswered": "got no answer: they have the template's text for now; the same command asks for them again",
        "silent": f"have no text: there is nothing to write from ({_NOTHING_KNOWN[kind]})",
    }
    lines += [f"{name}: {counts[name]} {why}" for name, why in reasons.items() if counts[name]]
    return "\n".join(lines)


def _tasks(cohort: Cohort, kind: str, pictures: int) -> Iterator[tuple[Study, Task]]:
    names = cohort.region_names
    for row in range(len(cohort)):
        study = cohort.study(row)
        if kind == "image-description":
            yield study, Task(kind, read_image_content(study, names), pictures=draw_pictures(cohort, row, pictures))
        else:
            content = read_content(study, names)
            text = (
                "\n".join(t for name, t in study.report.sections.items() if name in LABELED_SECTIONS)
                if study.report
                else ""
            )
            report, withheld = _hand_over(text, study) if content.source.startswith("report") else ("", "")
            yield study, Task(kind, content, report, withheld=withheld)


def _hand_over(text: str, study: Study) -> tuple[str, str]:
    """The report as a model may read it, or "" and why not."""
    if len(text) > LONGEST_REPORT:
        return "", f"the report has {len(text)} characters; a model is given at most {LONGEST_REPORT}"
    letters = [c for c in text if c.isalpha()]
    if sum(c.isupper() for c in letters) > _CAPITALS * len(letters):
        return "", ""  # names in capitals cannot be masked: the facts must do
    return mask_identifiers(text, (study.study_id, study.patient_id)), ""


def _finished(row: dict[str, Any], own: dict[str, Any], task: Task) -> bool:
    asked = {**own, "input_hash": task.hash, "answered": True}
    return all(row[key] == value for key, value in asked.items())


def _row(study: Study, task: Task, written: Written, own: dict[str, Any]) -> dict[str, Any]:
    return {
        "study_id": study.study_id,
        "kind": task.kind,
        "text": written.text,
        "structure": written.structure,
        "source": task.content.source or "pictures" * bool(task.pictures),
        **own,
        "input_hash": task.hash,
        "attempts": written.attempts,
        "accepted": written.accepted,
        "answered": written.answered,
        "reason": written.reason,
    }


def _outcome(row: dict[str, Any]) -> str:
    """What a text counts as."""
    if not row["answered"]:
        return "unanswered"
    if row["accepted"]:
        return "accepted"
    return "silent" if row["text"] is None else "replaced"


def draw_pictures(cohort: Cohort, row: int, most: int) -> tuple[bytes, ...]:
    """PNG files of at most so many of a study's images, of volumes planes evenly spaced along the first axis."""
    planes: list[NDArray[np.uint8]] = []
    images = cohort.image_rows(row)
    for image in images[:most]:
        pixels = cohort.pixels(image)
        if pixels.ndim == 2:
            planes.append(pixels)
        else:
            depth, many = len(pixels), max(1, most // len(images))
            planes += [pixels[int((i + 0.5) * depth / many)] for i in range(many)]
    return tuple(map(_png, planes[:most]))


def _png(plane: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(plane).save(file, "png")
    return file.getvalue()
