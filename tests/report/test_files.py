"""Reading reports from files: each form, and each way a file can be wrong."""

import zipfile
from pathlib import Path

import pytest

from chiasm.errors import InputError
from chiasm.report.files import find_other_language, read_openi_xml, read_report_files
from chiasm.study import Rejected

XML = """<eCitation><uId id="CXR7"/><AbstractText Label="FINDINGS">No effusion.</AbstractText>
<AbstractText Label="IMPRESSION"/><MeSH><major>Cardiomegaly/mild</major></MeSH></eCitation>"""


def test_openi_xml_reads_the_sections_and_never_the_codes() -> None:
    name, report = read_openi_xml(XML.encode(), "7.xml")
    assert (name, dict(report.sections)) == ("CXR7", {"findings": "No effusion."})


def test_folder_and_zip_hold_texts_and_xml_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_text("FINDINGS: Mass.", "utf-8")
    (folder / "deep" / "c.xml").write_text(XML, "utf-8")
    (folder / "ignored.csv").write_text("x", "utf-8")
    with zipfile.ZipFile(tmp_path / "reports.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    for path in (folder, tmp_path / "reports.zip"):
        assert [(t.id, t.report.text) for t in read_report_files(path)] == [("b", "Mass."), ("CXR7", "No effusion.")]


def test_text_file_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"\xef\xbb\xbfIMPRESSION: Clear.")
    assert [(t.id, dict(t.report.sections)) for t in read_report_files(tmp_path / "one.txt")] == [
        ("one", {"impression": "Clear."})
    ]
    (tmp_path / "many.jsonl").write_text('{"id": 1, "text": "Clear."}\n\n{"id": "x", "text": ""}\n', "utf-8")
    assert [(t.id, t.report.text) for t in read_report_files(tmp_path / "many.jsonl")] == [("1", "Clear."), ("x", "")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"caf\xe9", "not UTF-8"),
        ("a.txt", b"N\0o\0", "zero bytes"),
        ("a.txt", "No".encode("utf-16"), "iconv -f UTF-16"),
        ("a.xml", b"<x>", "not XML"),
        ("a.xml", b"<x/>", "not a report of Open-i"),
        ("a.zip", b"PK", "zip archive cannot be read"),
        ("a.jsonl", b"{", "line 1"),
        ("a.jsonl", b'{"id": 1}', "line is not a report"),
        ("a.jsonl", b'{"id": null, "text": "Mass."}', "line is not a report"),
        ("a.jsonl", b'{"id": "", "text": "Mass."}', "line is not a report"),
        ("a.jsonl", b'["id", "text"]', "line is not a report"),
        ("a.jsonl", b'{"id": 1, "text": "Mass \\ud800."}', "line is not JSON"),
        ("a.jsonl", b"[" * 100_000, "line is not JSON"),
        ("a.jsonl", b"", "no report was found"),
        ("a.json", b'[{"id": 1, "text": "Mass."}]', "not plain text"),
        ("a.rtf", b"{\\rtf1 Mass.}", "not plain text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        list(read_report_files(tmp_path / name))
    assert name in caught.value.where


def test_a_missing_path_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_report_files(tmp_path / "absent"))
    with pytest.raises(InputError, match="no report was found"):
        list(read_report_files(tmp_path))


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    for name in ("one/report.txt", "two/report.txt", "two/other.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("Mass.", "utf-8")
    with zipfile.ZipFile(tmp_path / "reports.zip", "w") as archive:
        for file in folder.rglob("*.txt"):
            archive.write(file, file.relative_to(folder))
    for path in (folder, tmp_path / "reports.zip"):
        assert [text.id for text in read_report_files(path)] == ["one/report", "other", "two/report"]


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    for name in ("a.pdf", "b.PDF", "c.docx", ".hidden"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"no report was found") as caught:
        list(read_report_files(folder))
    assert caught.value.got == "3 files of other kinds (.docx, .pdf)"
    (folder / "a.txt").write_text("Mass.", "utf-8")
    with zipfile.ZipFile(tmp_path / "reports.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"in/{file.name}")
    for path in (folder, tmp_path / "reports.zip"):
        rejected: list[Rejected] = []
        assert len(list(read_report_files(path, rejected))) == 1
        assert rejected == [Rejected(str(path), "not read: 3 files of other kinds (.docx, .pdf)")]


def test_a_table_is_not_read_as_one_report(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("id,text\n1,No effusion.\n2,Effusion.\n")
    with pytest.raises(InputError, match="a table is not a report"):
        list(read_report_files(tmp_path / "reports.csv"))


def test_openi_parts_of_one_name_are_both_kept_and_a_document_type_is_refused():
    abstract = '<AbstractText Label="FINDINGS">Clear <b>lungs</b>.</AbstractText><AbstractText Label="FINDINGS">No mass.</AbstractText>'
    text = read_openi_xml(f'<eCitation><uId id="CXR1"/>{abstract}</eCitation>'.encode(), "1.xml")
    assert text.report.sections == {"findings": "Clear lungs.\nNo mass."}
    with pytest.raises(InputError, match="document type"):
        read_openi_xml(b'<!DOCTYPE x [<!ENTITY s "t">]><eCitation><uId id="CXR1"/></eCitation>', "1.xml")


def test_what_cannot_be_read_is_handed_over_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_bytes(b'{"id": 1, "text": "Clear."}\n{\n\xff\n{"id": 2, "text": "Mass."}\n')
    rejected: list[Rejected] = []
    assert [text.id for text in read_report_files(tmp_path / "many.jsonl", rejected)] == ["1", "2"]
    assert [lost.where[-6:] for lost in rejected] == ["line 2", "line 3"]
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        list(read_report_files(tmp_path / "bad.txt", rejected))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("No pleural effusion. Heart normal.", None),
        ("45 y o M. XXXX XXXX. La Crosse clinic.", None),
        ("Kein Nachweis eines Ergusses, Herz normal.", "German"),
        ("Pas d'épanchement pleural, le cœur est normal.", "French"),
        ("No hay neumotórax. Silueta cardíaca de tamaño normal.", "Spanish"),
        ("Non versamento pleurico; il cuore è nei limiti, con aorta.", "Italian"),
        ("Não há derrame pleural.", "Portuguese"),
        ("Corazon normal. Sin cambios en pulmon derecho.", "Spanish"),
        ("Nao ha derrame, pulmao direito.", "Portuguese"),
        ("Geen pneumothorax, het hart is niet vergroot.", "Dutch"),
        ("PA chest, post op. PA and lateral post op: absence, AP.", None),
        ("PA. Post op. PA. Absence.", None),
        ("Ingen pneumothorax. Hjärtat är normalstort.", "Swedish"),
        ("Ingen pneumothorax. Hjertet er ikke forstørret.", "Danish or Norwegian"),
        ("Bez cech odmy. Sylwetka serca w normie.", "Polish"),
        ("Bez známek pneumothoraxu, srdce v normě.", "Czech"),
        ("Pnömotoraks yok. Kalp normal.", "Turkish"),
        ("Ei pneumothoraxia, sydän normaali.", "Finnish"),
        ("未见气胸。心影不大。", "another script"),
        ("", None),
    ],
)
def test_other_languages_are_known_by_their_common_words(text: str, language: str | None) -> None:
    assert find_other_language(text) == language


def test_no_english_report_is_taken_for_another_language(shared_data: Path) -> None:
    texts = read_report_files(shared_data / "openi" / "ecgen-radiology.zip")
    assert {find_other_language(text.report.text) for text in texts} == {None}
