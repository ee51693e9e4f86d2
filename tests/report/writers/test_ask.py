"""Asking a model that answers as the test says: what is taken, what is asked again, what the template replaces."""

import json

import pytest

from chiasm.domains.stroke.territories import TERRITORIES
from chiasm.report.content import Statement, TextContent
from chiasm.report.findings import label_report
from chiasm.report.writers import LanguageModelWriter, Task, TemplateWriter
from chiasm.report.writers.ask import ATTEMPTS, Unanswered
from chiasm.study import State

FACTS = TextContent(
    (
        Statement("pleural_effusion", State.PRESENT, manner="small", side="left"),
        Statement("nodule", State.UNCERTAIN),
        Statement("lung_lesion", State.UNCERTAIN),
        Statement("pneumothorax", State.ABSENT),
    ),
    source="report",
)
VERDICT = [{"finding": name, "state": state.value} for name, state in FACTS.states.items()]
GOOD = {
    "observations": ["A small effusion is seen on the left.", "Possible nodule.", "Possible lung lesion."],
    "verdict": VERDICT,
}
STROKE = TextContent(
    measured={"lesion_volume_ml": 12.34, "hemisphere": "left", "territory_7_share": 1.0},
    source="measurements",
    names=TERRITORIES,
)
TOLD = {
    "findings": [
        "There is an infarct of 12 ml in the left hemisphere.",
        "It lies in the frontal branches of the middle cerebral artery.",
    ],
    "impression": "Left hemispheric infarct, 12 ml.",
}


class Scripted:
    name, model, parallel, reads_images = "scripted:m", "m", 2, True

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def reply(self, messages, schema, seed):
        self.asked.append((list(messages), schema, seed))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)


def changed(good, **parts):
    return {**good, **parts}


def test_a_good_answer_is_taken_with_the_lexicons_definitions():
    model = Scripted(GOOD)
    written = LanguageModelWriter(model, seed=7).write(Task("structured-report", FACTS))
    assert (written.accepted, written.attempts, written.answered, written.reason) == (True, 1, True, "")
    assert "A small effusion is seen on the left." in written.text
    assert "DEFINITION: Pleural effusion: Fluid lies" in written.text
    read = {f.name: f.state for f in label_report(written.text)}
    assert {name: read[name] for name in FACTS.states} == FACTS.states
    ((messages, schema, seed),) = model.asked
    assert seed == 7 and schema["required"] == ["observations", "verdict"]
    assert '"side": "left"' in messages[0]["content"] and "\nReport" not in messages[0]["content"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no JSON at all", "it is not one JSON object"),
        ("[" * 100_000, "it is not one JSON object"),
        ('{"a":' * 100_000 + "}", "it is not one JSON object"),
        ("\ud800", "it is not one JSON object"),
        (changed(GOOD, observations=["Half a character: \ud800."]), "it is not one JSON object"),
        ('{"observations": NaN}', "it does not fit the schema at observations"),
        ({"observations": []}, "it does not fit the schema at verdict"),
        (
            changed(GOOD, verdict=[{"finding": "nodule", "state": "maybe"}]),
            "it does not fit the schema at verdict.0.state",
        ),
        (changed(GOOD, more="Jane Roe"), "it does not fit the schema at its top"),
        (changed(GOOD, verdict=VERDICT[1:]), "the verdict does not name pleural_effusion"),
        (changed(GOOD, verdict=[*VERDICT, VERDICT[0]]), "the verdict names a finding twice"),
        (
            changed(GOOD, verdict=[*VERDICT, {"finding": "Jane Roe", "state": "present"}]),
            "the verdict names something that is not among the facts",
        ),
        (
            changed(GOOD, verdict=[*VERDICT[:3], {"finding": "pneumothorax", "state": "present"}]),
            "pneumothorax is absent in the facts, but present in the verdict",
        ),
        (  # the verdict is right, the sentence is not
            changed(GOOD, observations=["No effusion on the left.", *GOOD["observations"][1:]]),
            "the observations say that pleural effusion is absent, which the facts do not",
        ),
        (
            changed(GOOD, observations=GOOD["observations"][1:]),
            "the observations do not say that pleural effusion is present",
        ),
        (
            changed(GOOD, observations=[*GOOD["observations"], "Fracture."]),
            "the observations say that fracture is present, which the facts do not",
        ),
        (
            changed(GOOD, observations=["Right effusion.", *GOOD["observations"][1:]]),
            "it says right, which the facts do not",
        ),
        (
            changed(GOOD, observations=["Effusion of 35 mm.", *GOOD["observations"][1:]]),
            "it holds the number 35, which the facts do not",
        ),
    ],
)
def test_what_contradicts_the_facts_is_named_to_the_model_and_asked_again(answer, reason):
    model = Scripted(answer, GOOD)
    written = LanguageModelWriter(model, seed=1).write(Task("structured-report", FACTS))
    assert (written.accepted, written.attempts) == (True, 2)
    (first, _, _), (again, _, seed) = model.asked
    assert again[0] == first[0] and seed == 2
    assert f"- {reason}\n" in again[2]["content"]
    assert "Jane Roe" not in again[2]["content"]


def test_after_the_last_attempt_the_template_writes():
    model = Scripted(*["nonsense"] * ATTEMPTS)
    task = Task("structured-report", FACTS)
    written, own = LanguageModelWriter(model).write(task), TemplateWriter().write(task)
    assert (written.text, written.structure) == (own.text, own.structure)
    assert (written.accepted, written.attempts, written.answered) == (False, ATTEMPTS, True)
    assert written.reason == "it is not one JSON object"


def test_no_answer_is_the_templates_text_for_now():
    written = LanguageModelWriter(Scripted(Unanswered("the server answered 429"))).write(
        Task("structured-report", FACTS)
    )
    assert (written.accepted, written.answered, written.reason) == (False, False, "the server answered 429")
    assert written.text == TemplateWriter().write(Task("structured-report", FACTS)).text


def test_json_in_a_wrapping_of_words_is_json():
    written = LanguageModelWriter(Scripted(f"Here you are:\n```json\n{json.dumps(GOOD)}\n```")).write(
        Task("structured-report", FACTS)
    )
    assert written.accepted


def test_what_is_withheld_or_unknown_is_never_asked():
    model = Scripted()
    long = LanguageModelWriter(model).write(
        Task("structured-report", FACTS, withheld="the report has 1000000 characters")
    )
    assert (long.text is not None, long.accepted, long.reason) == (True, False, "the report has 1000000 characters")
    nothing = LanguageModelWriter(model).write(Task("image-description", TextContent()))
    assert (nothing.text, nothing.accepted, nothing.reason) == (None, False, "nothing is known to write from")


def test_the_report_goes_along_and_lends_its_numbers():
    answer = changed(GOOD, observations=["Left effusion of 35 mm.", *GOOD["observations"][1:]])
    model = Scripted(answer)
    written = LanguageModelWriter(model).write(Task("structured-report", FACTS, report="Left effusion, 35 mm."))
    assert written.accepted
    assert "Left effusion, 35 mm." in model.asked[0][0][0]["content"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (changed(TOLD, impression="Right hemispheric infarct, 12 ml."), "it says right, which the facts do not"),
        (changed(TOLD, impression="Infarct of 45 ml on the left."), "it holds the number 45, which the facts do not"),
        (changed(TOLD, findings=["An infarct."], impression="Infarct of 12 ml."), "it leaves out left"),
        (changed(TOLD, findings=["Left infarct."], impression="Large left infarct."), "it leaves out 12"),
        (changed(TOLD, findings=["It reaches the thalamus."]), "it says thalamus, which the facts do not"),
        (changed(TOLD, findings=[]), "it has an empty sentence"),
        (changed(TOLD, findings=["Left infarct with edema."]), "pulmonary edema is not mentioned in the facts"),
    ],
)
def test_an_image_description_keeps_to_what_was_measured(answer, reason):
    model = Scripted(answer, TOLD)
    written = LanguageModelWriter(model).write(Task("image-description", STROKE))
    assert (written.accepted, written.attempts) == (True, 2)
    assert reason in model.asked[1][0][2]["content"]
    assert written.text.startswith("FINDINGS: There is an infarct of 12 ml")


def test_pictures_go_along_and_may_show_what_nobody_measured():
    model = Scripted({"findings": ["There is a pneumothorax."], "impression": "Pneumothorax."})
    written = LanguageModelWriter(model).write(Task("image-description", TextContent(), pictures=(b"\x89PNG",)))
    assert written.accepted
    text, picture = model.asked[0][0][0]["content"]
    assert text["type"] == "text" and "You see 1 picture of it" in text["text"]
    assert picture == {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}


def test_the_prompt_hash_covers_the_files(monkeypatch):
    from chiasm.report.writers import task as module

    asking = LanguageModelWriter(Scripted())
    hashes = {
        asking.prompt_hash("structured-report"),
        asking.prompt_hash("image-description"),
        TemplateWriter().prompt_hash(""),
    }
    assert len(hashes) == 3
    before = TemplateWriter().prompt_hash("structured-report")
    monkeypatch.setattr(module, "FILES", module.FILES[:-1])
    assert TemplateWriter().prompt_hash("structured-report") != before


def test_a_task_is_known_by_all_that_is_handed_over():
    tasks = [
        Task("structured-report", FACTS),
        Task("image-description", FACTS),
        Task("structured-report", STROKE),
        Task("structured-report", FACTS, report="a"),
        Task("structured-report", FACTS, pictures=(b"a",)),
    ]
    assert len({task.hash for task in tasks}) == len(tasks)
    assert Task("structured-report", FACTS).hash == tasks[0].hash
