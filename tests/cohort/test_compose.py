"""`chiasm write` over cohorts: what is asked, what is kept, what is not asked again."""

import base64
import io
import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from chat_server import ChatServer
from PIL import Image as Pillow

from chiasm.cohort.compose import write_texts
from chiasm.cohort.generated import FILE, read_generated
from chiasm.cohort.store import Cohort, write_cohort
from chiasm.errors import InputError, WriterError
from chiasm.geometry import Geometry
from chiasm.report.content import finding_name
from chiasm.report.findings import label_report
from chiasm.report.writers import LanguageModelWriter, TemplateWriter, Written
from chiasm.report.writers.server import Server
from chiasm.sources.phantom_chest import read
from chiasm.study import Finding, Image, Outcome, Record, Region, Report, State, Study, View


def cohort_of(folder, studies):
    return write_cohort(studies, folder, source="made", options={}, size=32, volume_size=(8, 8, 8))


@pytest.fixture
def small_phantom(tmp_path):
    return cohort_of(tmp_path / "cohort", itertools.islice(read(size=32, missing=0.2), 12))


def one(study_id="s", **parts):
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    image = Image(f"{study_id}-i", pixels, Geometry.identity((64, 64)), View.PA)
    return Study(study_id, f"patient-{study_id}", images=(image,), **parts)


def table(cohort):
    return {(r["study_id"], r["kind"]): r for r in pq.read_table(cohort.path / FILE).to_pylist()}


def good(body, number):
    """What a faithful model would answer: each fact of the question in a sentence of its own."""
    text = body["messages"][0]["content"]
    facts = json.loads(text.split("\nFacts\n")[1].splitlines()[0])["findings"]
    form = {"present": "There is {}.", "uncertain": "Possible {}.", "absent": "No {}."}
    said = [form[f["state"]].format(finding_name(f["finding"])) for f in facts if f["finding"] != "normal"]
    verdict = {f["finding"]: f["state"] for f in facts}
    return json.dumps({"observations": said, "verdict": [{"finding": f, "state": s} for f, s in verdict.items()]})


def test_the_template_writes_every_study_and_is_done_the_second_time(small_phantom):
    counts = write_texts(small_phantom, TemplateWriter(), "structured-report")
    none = dict.fromkeys(("finished", "replaced", "unanswered", "silent"), 0)
    assert counts == {"studies": 12, "written": 12, "accepted": 12, **none}
    rows = table(small_phantom)
    for number in range(12):
        study = small_phantom.study(number)
        row = rows[study.study_id, "structured-report"]
        assert (row["writer"], row["model"], row["accepted"]) == ("template", "", True)
        assert row["source"] == ("report" if study.report else "labels")
        if study.report:
            own = {f.name: f.state for f in label_report(study.report)}
            assert {f.name: f.state for f in label_report(row["text"])} == own
    again = write_texts(small_phantom, TemplateWriter(), "structured-report")
    assert again == {**counts, "finished": 12, "written": 0}, "what was accepted before still counts"
    small_phantom.verify()  # texts are no part of the content hash


def test_an_image_description_has_nothing_from_elsewhere(tmp_path):
    region = Region("mass", "s-i", (4, 4, 20, 20))
    bare = one(regions=(region,), facts={"lesion_volume_ml": 3.0, "hemisphere": "left"})
    told = replace(
        bare,
        report=Report({"findings": "Right pneumothorax of Jane Roe.", "history": "Hemiparesis."}),
        record=Record({"age_years": 81.0, "sex": "f"}),
        findings=(Finding("edema", State.PRESENT),),
        outcomes=(Outcome("event", 1.0),),
    )
    texts, hashes = [], []
    for number, study in enumerate((bare, told)):
        cohort = cohort_of(tmp_path / str(number), [study])
        write_texts(cohort, TemplateWriter(), "image-description")
        texts.append(read_generated(cohort.path, "image_description")["s"])
        hashes.append(table(cohort)["s", "image-description"]["input_hash"])
    assert texts[0] == texts[1] and hashes[0] == hashes[1]
    assert "3.0 ml" in texts[0]
    with ChatServer(lambda body, number: "{}") as server:  # nor is a model told of it, with pictures or without
        for number, pictures in itertools.product((0, 1), (0, 1)):
            cohort, writer = Cohort.open(tmp_path / str(number)), LanguageModelWriter(Server("m", server.url))
            write_texts(cohort, writer, "image-description", pictures=pictures)
    many = len(server.requests) // 2
    assert many and server.requests[:many] == server.requests[many:]
    assert not any(word in json.dumps(server.requests) for word in ("Roe", "Hemiparesis", "age_years", "edema"))


def test_nothing_known_leaves_a_row_that_says_so(tmp_path):
    foreign = Report({"findings": "Die Lunge ist frei belüftet."})
    cohort = cohort_of(tmp_path / "c", [one("a", report=foreign), one("b", findings=(Finding("mass", State.ABSENT),))])
    counts = write_texts(cohort, TemplateWriter(), "structured-report")
    assert (counts["accepted"], counts["silent"]) == (1, 1)
    row = table(cohort)["a", "structured-report"]
    assert (row["text"], row["source"], row["reason"]) == (None, "", "nothing is known to write from")


def test_a_report_too_long_or_in_capitals_is_not_handed_over(tmp_path):
    long = Report({"findings": "No effusion. " * 2_000})
    capitals = Report({"findings": "JOHN DOE HAS AN EFFUSION."})
    cohort = cohort_of(tmp_path / "c", [one("a", report=long), one("b", report=capitals)])
    with ChatServer(good) as server:
        counts = write_texts(cohort, LanguageModelWriter(Server("m", server.url)), "structured-report")
    assert (counts["accepted"], counts["replaced"]) == (1, 1)
    assert "characters; a model is given at most" in table(cohort)["a", "structured-report"]["reason"]
    assert len(server.requests) == 1 and "DOE" not in json.dumps(server.requests)


def test_a_server_gets_masked_reports_and_its_texts_keep_their_origin(tmp_path):
    report = Report(
        {"findings": "Seen by Dr. Jane Roe on 3/14/2021, case s-17. Left effusion.", "history": "Mary Poe fell."}
    )
    cohort = cohort_of(tmp_path / "c", [one("s-17", report=report)])
    with ChatServer(good) as server:
        writer = LanguageModelWriter(Server("big-model", server.url), seed=5)
        assert write_texts(cohort, writer, "structured-report", seed=5)["accepted"] == 1
        assert write_texts(cohort, writer, "structured-report", seed=5)["finished"] == 1
        assert len(server.requests) == 1
        assert (
            write_texts(
                cohort, LanguageModelWriter(Server("big-model", server.url), seed=6), "structured-report", seed=6
            )["written"]
            == 1
        )
    sent = json.dumps(server.requests)
    assert "Seen by [NAME] on [DATE], case [ID]. Left effusion." in sent
    assert not any(word in sent for word in ("Roe", "2021", "s-17", "Poe", "patient-"))
    row = table(cohort)["s-17", "structured-report"]
    assert (row["writer"], row["model"], row["seed"]) == (f"openai:big-model@{server.url}", "big-model", 6)
    assert (row["attempts"], row["accepted"], row["answered"], row["reason"]) == (1, True, True, "")
    assert row["prompt_hash"] == writer.prompt_hash("structured-report")


def test_an_answer_against_the_facts_is_asked_again_and_then_replaced(small_phantom):
    def contrary(body, number):
        answer = json.loads(good(body, number))
        answer["verdict"] = [{**j, "state": {"absent": "present"}.get(j["state"], "absent")} for j in answer["verdict"]]
        return json.dumps(answer)

    with ChatServer(contrary) as server:
        counts = write_texts(small_phantom, LanguageModelWriter(Server("m", server.url)), "structured-report", limit=2)
    assert (counts["written"], counts["replaced"], len(server.requests)) == (2, 2, 6)
    assert "in the facts, but" in server.requests[-1]["messages"][2]["content"]
    for row in table(small_phantom).values():
        assert (row["accepted"], row["answered"], row["attempts"]) == (False, True, 3)


def test_studies_without_an_answer_are_asked_again_the_next_time(small_phantom):
    """One answer in three is lost on the way; two in a row are no reason to stop."""
    with ChatServer(lambda body, n: good(body, n) if n % 3 == 0 else ("cut",)) as server:
        counts = write_texts(
            small_phantom, LanguageModelWriter(Server("m", server.url, retries=0)), "structured-report", concurrency=1
        )
        assert (counts["accepted"], counts["unanswered"]) == (4, 8)
    with ChatServer(good) as again:
        writer = LanguageModelWriter(Server("m", again.url))
        writer.name = f"openai:m@{server.url}"
        counts = write_texts(small_phantom, writer, "structured-report")
        assert (counts["finished"], counts["accepted"], len(again.requests)) == (4, 12, 8)


def test_a_server_that_is_gone_ends_the_work(small_phantom):
    with ChatServer(lambda body, n: ("status", 500, {}) if n else good(body, n)) as server:
        writer = LanguageModelWriter(Server("m", server.url, retries=0))
        with pytest.raises(WriterError, match="3 studies in a row") as caught:
            write_texts(small_phantom, writer, "structured-report", concurrency=1)
    assert caught.value.got == "the server answered 500"
    assert len(server.requests) == 4
    assert sum(row["accepted"] for row in table(small_phantom).values()) == 1


def test_questions_go_out_together_but_not_too_many(small_phantom):
    together = threading.Barrier(3, timeout=20)

    def three(body, number):
        together.wait()
        return good(body, number)

    with ChatServer(three) as server:
        counts = write_texts(
            small_phantom, LanguageModelWriter(Server("m", server.url)), "structured-report", concurrency=3
        )
    assert (counts["accepted"], server.at_once) == (12, 3)


def test_an_interruption_keeps_what_was_written(small_phantom):
    class Interrupted(TemplateWriter):
        done = 0

        def write(self, task) -> Written:
            self.done += 1
            if self.done > 5:
                raise KeyboardInterrupt
            return super().write(task)

    with pytest.raises(KeyboardInterrupt):
        write_texts(small_phantom, Interrupted(), "structured-report")
    assert len(table(small_phantom)) == 5
    assert write_texts(small_phantom, TemplateWriter(), "structured-report")["finished"] == 5


def test_pictures_of_images_and_volumes_go_as_png(tmp_path):
    volume = np.zeros((8, 8, 8), np.uint8)
    volume[2], volume[6], volume[7] = 50, 200, 255
    images = (Image("v", volume, Geometry.identity((8, 8, 8))), *one().images)
    cohort = cohort_of(tmp_path / "c", [replace(one(), images=images)])
    answer = json.dumps({"findings": ["There is a pneumothorax."], "impression": "Pneumothorax."})
    with ChatServer(lambda body, n: answer) as server:
        counts = write_texts(cohort, LanguageModelWriter(Server("m", server.url)), "image-description", pictures=4)
    assert counts["accepted"] == 1
    _, *pictures = server.requests[0]["messages"][0]["content"]
    decoded = [
        np.asarray(
            Pillow.open(io.BytesIO(base64.b64decode(p["image_url"]["url"].removeprefix("data:image/png;base64,"))))
        )
        for p in pictures
    ]
    assert [d.shape for d in decoded] == [(8, 8), (8, 8), (32, 32)]
    assert sorted(int(d.max()) for d in decoded[:2]) == [50, 200]
    assert table(cohort)["s", "image-description"]["source"] == "pictures"


def test_pictures_for_a_writer_that_does_not_see_are_refused(small_phantom):
    """A model that is told of pictures and gets none would invent what they show."""
    blind = LanguageModelWriter(Server("m", "http://localhost:1/v1"))
    blind.reads_images = False
    for writer in (TemplateWriter(), blind):
        with pytest.raises(InputError, match="would not be looked at"):
            write_texts(small_phantom, writer, "image-description", pictures=1)
    with pytest.raises(InputError, match="would not be looked at"):
        write_texts(
            small_phantom, LanguageModelWriter(Server("m", "http://localhost:1/v1")), "structured-report", pictures=1
        )
    assert not (small_phantom.path / FILE).exists()


def test_another_prompt_or_other_facts_ask_again(small_phantom, monkeypatch):
    write_texts(small_phantom, TemplateWriter(), "structured-report")
    monkeypatch.setattr(TemplateWriter, "prompt_hash", lambda self, kind: "changed by a clinician")
    assert write_texts(small_phantom, TemplateWriter(), "structured-report")["written"] == 12


def test_an_unknown_kind_of_text_is_refused(small_phantom):
    with pytest.raises(InputError, match="kind of text") as caught:
        write_texts(small_phantom, TemplateWriter(), "poem")
    assert caught.value.expected == "structured-report or image-description"
