import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_crds.names import (
    BadFileName,
    file_name,
    folder_of_key,
    job_of_pod,
    object_key,
    pod_name,
)


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?", fullmatch=True), st.integers(1, 10**6))
def test_a_pods_name_gives_back_job_and_attempt(job: str, attempt: int) -> None:
    assert job_of_pod(pod_name(job, attempt)) == (job, attempt)


@pytest.mark.parametrize("name", ["job", "job-", "-1", "job-x", "job-01", "job-0", "", "job-¹"])
def test_other_pods_names_are_not_ours(name: str) -> None:
    assert job_of_pod(name) is None


def test_a_key_gives_back_its_folder() -> None:
    assert folder_of_key(object_key("abc", "inputs.zip")) == "abc"


@pytest.mark.parametrize("key", ["", "jobs/", "jobs/a", "jobs//x", "records/a/b", "jobs/a/b/c"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not the key of a job"):
        folder_of_key(key)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("run.sh", "run.sh"),
        ("/etc/passwd", "passwd"),
        ("../../x", "x"),
        (r"C:\Users\me\model.pdb", "model.pdb"),
        ("Å.pdb", "Å.pdb"),
        ("with space.txt", "with space.txt"),
    ],
)
def test_a_file_name_is_the_last_part(raw: str, name: str) -> None:
    assert file_name(raw) == name


@pytest.mark.parametrize(
    "raw", ["", ".", "..", "a/", "a/..", "x\0y", "x\ny", "a\u202egpj.exe", "é" * 128, "\ud800"]
)
def test_a_hostile_file_name_is_refused_with_a_sentence(raw: str) -> None:
    with pytest.raises(BadFileName, match=r"rename the file\.$"):
        file_name(raw)


@given(st.text())
def test_no_accepted_name_leaves_the_folder(raw: str) -> None:
    try:
        name = file_name(raw)
    except BadFileName:
        return
    assert "/" not in name
    assert name not in {"", ".", ".."}
    assert len(name.encode()) <= 255
