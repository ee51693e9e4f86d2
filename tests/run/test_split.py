"""split.json is written whole, read back equal, and refused where it is not what was written."""

import json

import pytest

from chiasm.errors import RunError
from chiasm.run.split import Split, read_split, write_split

SPLIT = Split(7, ["0/a", "1/a"], ["0/b"], [], ["12ab"], [])


def test_a_split_is_read_as_it_was_written_and_names_studies_by_part(tmp_path):
    write_split(SPLIT, tmp_path)
    assert read_split(tmp_path) == SPLIT
    assert read_split(tmp_path).parts == {"train": ["0/a", "1/a"], "validation": ["0/b"], "test": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "another schema version"),
        ({"seed": "seven"}, "seed: "),
        ({"test": [3]}, "test.0: "),
        ({"tests": []}, "tests: "),
    ],
)
def test_a_split_that_is_not_as_written_is_refused_without_a_study_in_the_message(tmp_path, change, said):
    write_split(SPLIT, tmp_path)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=said) as error:
        read_split(tmp_path)
    assert "0/a" not in str(error.value)
    assert "seven" not in str(error.value)
