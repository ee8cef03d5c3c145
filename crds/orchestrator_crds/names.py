"""How things are named: jobs, pods, objects in the store, uploaded files."""

import unicodedata

AUDIENCE = "orchestrator-gateway/"
# What jobs' pods run as; the chart makes it.
SERVICE_ACCOUNT = "orchestrator-job"
INPUTS = "inputs.zip"
JOBS_PREFIX = "jobs/"
RECORDS_PREFIX = "records/"
# What users ran lately, for shares that look back.
BOOKS_KEY = "operator/books.json"
SCRIPT = "run.sh"

# Categories that no honest file name holds: control, format (right-to-left overrides hide a
# name's end), surrogate, private use, line and paragraph separators.
_HOSTILE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


class BadFileName(ValueError):  # noqa: N818
    """An uploaded file's name cannot be used; the message says why, in a sentence."""


def job_name(job_id: int) -> str:
    """Return the resource name of the job with this REST id."""
    return f"job-{job_id}"


def pod_name(job: str, attempt: int) -> str:
    """Return the name of the pod of one attempt at a job."""
    return f"{job}-{attempt}"


def audience(job_uid: str) -> str:
    """Return whom the tokens of a job's pods are for: the gateway, and this very job.

    A pod's name would not tell a job from one of the same name that came after it.
    """
    return f"{AUDIENCE}{job_uid}"


def job_of_pod(pod: str) -> tuple[str, int] | None:
    """Return (job name, attempt) of a pod's name, or None when it is not one of ours."""
    job, _, attempt = pod.rpartition("-")
    if not job or not attempt.isascii() or not attempt.isdigit() or attempt.startswith("0"):
        return None
    return job, int(attempt)


def object_key(folder: str, name: str) -> str:
    """Return the key of *name* in a job's folder, which is a random id drawn by the API."""
    return f"{JOBS_PREFIX}{folder}/{name}"


def results_key(folder: str, attempt: int) -> str:
    """Return the key of an attempt's results. A late write of another attempt cannot touch them."""
    return object_key(folder, f"results-{attempt}.zip")


def partial_key(folder: str, attempt: int) -> str:
    """Return the key of an attempt's latest snapshot."""
    return object_key(folder, f"partial-{attempt}.zip")


def record_key(job_id: int) -> str:
    """Return the key of the record of an ended job."""
    return f"{RECORDS_PREFIX}{job_id}.json"


def job_id_of_record(key: str) -> int:
    """Return the number of the job that a key is the record of, or 0 when it is of none."""
    number = key.removeprefix(RECORDS_PREFIX).removesuffix(".json")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 11 else 0


def folder_of_key(key: str) -> str:
    """Return the folder part of a key made by `object_key`; raises ValueError for any other."""
    prefix, _, rest = key.partition("/")
    folder, _, name = rest.partition("/")
    if prefix + "/" != JOBS_PREFIX or not folder or not name or "/" in name:
        raise ValueError(f"{key!r} is not the key of a job's object")
    return folder


def file_name(raw: str) -> str:
    """Return the last component of an uploaded file's name; raises BadFileName.

    Browsers of old sent whole paths, so folders are cut off rather than refused, both kinds.
    """
    name = raw.replace("\\", "/").rsplit("/", 1)[-1]
    if name in {"", ".", ".."}:
        raise BadFileName(f"File name {raw!r} has no usable last part; rename the file.")
    if any(unicodedata.category(c) in _HOSTILE_CATEGORIES for c in name):
        raise BadFileName(
            f"File name {name!r} holds control or invisible characters; rename the file."
        )
    if len(name.encode()) > 255:
        raise BadFileName(f"File name {name[:40]!r}... is longer than 255 bytes; rename the file.")
    return name
