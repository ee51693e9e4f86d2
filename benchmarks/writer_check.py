"""What of invented sentences, and of right texts, the check of a language model's text lets through.

    python benchmarks/writer_check.py [--studies 200] [--data ../shared/data/openi]

Texts are made of the facts of phantom chests and phantom strokes, and of Open-i reports where they are at hand. A right text says the
facts in one of several wordings that the template does not use; an invention is one sentence of a kind, put into a right text. The
report itself is handed over in one half of the chest studies. Prints and writes results/writer_check.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from chiasm.report.content import TextContent, finding_name, read_content, read_image_content
from chiasm.report.description import ImageDescription
from chiasm.report.structured import build_report
from chiasm.report.writers.check import check_document, complete_report
from chiasm.report.writers.entailment import find_unsupported, read_given
from chiasm.report.writers.task import Task, fill_template
from chiasm.study import State

HERE = Path(__file__).resolve().parent
INVENTED = {
    "free air": ("Free air under the diaphragm.", "There is subdiaphragmatic gas."),
    "operation": ("Status post sternotomy.", "The patient has had a lobectomy."),
    "recommendation": ("Urgent surgery is needed.", "A CT of the chest is recommended."),
    "name": ("Mr Miller was examined.", "Reported by Dr Jane Roe."),
    "device": ("A pacemaker is in place.", "The endotracheal tube ends above the carina."),
    "another finding": ("There is a rib fracture.", "There is a hiatal hernia."),
    "another finding denied": ("No rib fracture is seen.", "There is no hiatal hernia."),
    "symptom": ("The patient reports chest pain.", "Fever and cough are present."),
    "age and sex": ("This is an elderly man.", "The patient is a young woman."),
    "comparison": ("Compared with the prior study this has progressed.", "This is unchanged since last year."),
    "cause": ("This is caused by heart failure.", "The cause is an infection."),
    "prognosis": ("The outlook is poor.", "Recovery is expected."),
    "technique": ("The film is rotated.", "Portable supine projection with poor inspiration."),
    "laboratory": ("The white cell count is elevated.", "Troponin is raised."),
    "malignancy": ("This is suspicious for malignancy.", "Metastases are likely."),
    "treatment": ("Antibiotics were given.", "Thrombolysis was started."),
    "vessels": ("The aorta is tortuous.", "There is vascular congestion."),
    "bones": ("Degenerative changes of the spine.", "The bones are osteopenic."),
    "artefact": ("A motion artefact is present.", "There is a foreign body."),
    "certainty": ("This is definitely the diagnosis.", "The diagnosis is certain."),
    "soft tissue": ("Subcutaneous emphysema of the neck.", "The soft tissues are swollen."),
    "history": ("Known history of tuberculosis.", "The patient smokes."),
}
OTHERS = {
    "hemorrhage": ("There is hemorrhagic transformation.", "A bleed is seen."),
    "quality": ("The image quality is excellent.", "The study is limited by noise."),
    "date": ("The study dates from March.", "It was taken on Monday."),
    "place": ("It was taken at the city hospital.", "The patient was transferred from abroad."),
}
"""Kinds that were looked at only once the rules stood."""
WORDINGS = (
    "There is {words}.",
    "{words} is seen.",
    "{Words} is present.",
    "The image shows {words}.",
    "Findings are notable for {words}.",
    "Evidence of {words}.",
)


HELD_OUT = (
    "One can appreciate {words}.",
    "Radiographically, {words}.",
    "{Words} identified.",
    "We observe {words}.",
    "Imaging is consistent with {words}.",
    "Noted: {words}.",
    "Also, {words} on this radiograph.",
    "{Words}, as depicted on the image.",
    "In addition there is {words}.",
    "The radiograph confirms {words}.",
)
"""Wordings by which the list of neutral words was widened: 41 of 100 texts in them had been refused."""
BLIND = (
    "The lungs exhibit {words}.",
    "Inspection reveals {words}.",
    "{Words} can be made out.",
    "Visible on this image: {words}.",
    "Our reading is {words}.",
    "{Words} stands out.",
    "The main observation is {words}.",
    "On this picture, {words} is discernible.",
    "{Words} is depicted.",
    "There appears to be {words}.",
    "Attention is drawn to {words}.",
    "The examination documents {words}.",
)
"""Wordings for which sentences that state a fact were allowed words beyond the list: 41 of 100 had been refused."""
LAST = (
    "What can be observed is {words}.",
    "{Words} catches the eye.",
    "The examiner sees {words}.",
    "Demonstration of {words}.",
    "We are looking at {words}.",
    "This radiograph is remarkable for {words}.",
    "Overall picture: {words}.",
    "{Words} was picked up.",
    "Conspicuous {words}.",
    "Here, {words} comes into view.",
)
"""Wordings that were written after that, and looked at once, with no change since."""


def tell(content: TextContent, wording: int, wordings: tuple[str, ...] = WORDINGS) -> tuple[str, ...]:
    """The facts that are present or uncertain, a sentence each, in a wording of one's own."""
    told = []
    for number, said in enumerate(s for s in content.statements if s.state in (State.PRESENT, State.UNCERTAIN)):
        words = " ".join(
            filter(None, (said.manner, said.side if said.side not in said.place else "", finding_name(said.finding)))
        )
        words += f" in the {said.place}" if said.place and not said.place.startswith(("along", "perihilar")) else ""
        words += f", measuring {said.size}" if said.size else ""
        if said.state is State.UNCERTAIN:
            told.append(("Possible {}.", "There may be {}.", "Suspected {}.")[(wording + number) % 3].format(words))
        else:
            form = wordings[(wording + number) % len(wordings)]
            told.append(form.format(words=words, Words=words[:1].upper() + words[1:]))
    return tuple(sentence[:1].upper() + sentence[1:] for sentence in told)


def chests(count: int, data: Path) -> Iterator[Task]:
    from chiasm.sources.openi import read as read_openi
    from chiasm.sources.phantom_chest import read as phantoms

    studies = list(islice(phantoms(studies=count, size=32, seed=5), count))
    if data.is_dir():
        from chiasm.study import Study

        studies += [s for s in islice(read_openi(data), count) if isinstance(s, Study)]
    for number, study in enumerate(studies):
        content = read_content(study)
        if content.statements:
            report = "\n".join(
                text
                for name, text in (study.report.sections if study.report else {}).items()
                if name in ("findings", "impression")
            )
            yield Task("structured-report", content, report if number % 2 else "")


def strokes(count: int) -> Iterator[Task]:
    from chiasm.domains.stroke.territories import TERRITORIES
    from chiasm.sources.phantom_stroke import read as phantoms

    for study in islice(phantoms(studies=count, volume_size=(32, 32, 32), seed=5), count):
        content = read_image_content(study, TERRITORIES)
        if content.measured:
            yield Task("image-description", content)


def reasons(task: Task, sentences: tuple[str, ...], impression: str = "") -> list[str]:
    """The reasons against a text."""
    own = fill_template(task)
    if task.kind == "image-description":
        return check_document(ImageDescription(findings=sentences, impression=impression), task, own)
    return check_document(complete_report(sentences, build_report(task.content).verdict, task), task, own)


def unsupported(task: Task, sentences: tuple[str, ...]) -> list[str]:
    own = fill_template(task)
    assert own is not None
    return find_unsupported(sentences, read_given(task, own))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data" / "openi")
    given = parser.parse_args()
    right, refused = Counter[str](), Counter[str]()
    put, caught = Counter[str](), Counter[str]()
    shown: dict[str, str] = {}
    for number, task in enumerate([*chests(given.studies, given.data), *strokes(given.studies // 4)]):
        own = fill_template(task)
        if isinstance(own, ImageDescription):
            texts = [(tuple(s.replace("There is", "The image shows") for s in own.findings), own.impression)]
        else:
            texts = [(tell(task.content, number + k), "") for k in range(2)]
        if not isinstance(own, ImageDescription):
            for name, wordings in (
                ("later wordings", HELD_OUT),
                ("wordings after these", BLIND),
                ("blind wordings", LAST),
            ):
                right[name] += 1
                refused[name] += bool(reasons(task, tell(task.content, number, wordings)))
                for k in range(len(wordings)) if number < 40 else ():  # one sentence in each wording
                    one = tell(task.content, k, wordings)[:1]
                    right[f"{name}, sentences"] += len(one)
                    refused[f"{name}, sentences"] += bool(one) and bool(unsupported(task, one))
        for sentences, impression in texts:
            right[task.kind] += 1
            if why := reasons(task, sentences, impression):
                refused[task.kind] += 1
                shown.setdefault(why[0], " | ".join(sentences)[:160])
                continue
            for kind, (one, two) in (INVENTED | OTHERS).items():
                place = number % (len(sentences) + 1)
                put[kind] += 1
                told = (*sentences[:place], (one, two)[number % 2], *sentences[place:])
                caught[kind] += bool(reasons(task, told, impression))
    first, others = ({k: (caught[k], put[k]) for k in kinds} for kinds in (INVENTED, OTHERS))
    total = {
        name: tuple(map(sum, zip(*own.values(), strict=True)))
        for name, own in (("22 kinds", first), ("others", others))
    }
    result = {
        "right texts": dict(right), "refused": dict(refused), "caught of put in": {**total, **first, **others},
        "share refused": {name: refused[name] / count for name, count in right.items()},
        "share caught": {name: a / b for name, (a, b) in total.items()},
    }  # fmt: skip
    (HERE / "results" / "writer_check.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))
    print(json.dumps(shown, indent=1)[:6000])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
