"""Killed and back: operator, API, object store, API server. No job is lost, none runs twice."""

import httpx2
import pytest

from tests.cluster.place import Place, examples, standing_still, until

SLOW = "echo start >> starts; sleep 4; wc -l < starts > count"


def answers(place: Place) -> bool:
    try:
        return httpx2.get(f"{place.front}/health", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def finished(place: Place, number: int) -> None:
    place.wait(number)
    status = place.job(number)["status"]
    assert (status["phase"], status["attempt"]) == ("Completed", 1), status


def test_the_operator_killed_mid_job_and_back(place: Place) -> None:
    running = place.upload(SLOW, user=21)
    place.wait(running, "Running")
    old = place.pid("operator")
    place.kill("operator")
    meanwhile = place.upload("echo hi", user=21)
    finished(place, running)
    finished(place, meanwhile)
    assert place.pid("operator") != old


def test_the_api_killed_mid_job_and_back(place: Place) -> None:
    number = place.upload(SLOW, user=22)
    place.wait(number, "Running")
    place.kill("api")
    until(lambda: answers(place), "the API is back")
    finished(place, number)


def test_an_upload_while_the_object_store_is_down_is_503_and_leaves_nothing(place: Place) -> None:
    before = place.kubectl("get", "orchestratorjobs", "-oname")
    with place.stopped("minio"):
        form = {"user_id": "1", "service": "example"}
        files = [("file", ("run.sh", b"echo hi"))]
        answer = httpx2.post(f"{place.front}/upload", data=form, files=files, timeout=60)
        assert answer.status_code == 503
        assert "file store" in answer.json()["message"]
        assert httpx2.get(f"{place.front}/health", timeout=60).status_code == 503
        assert place.kubectl("get", "orchestratorjobs", "-oname") == before
    until(lambda: answers(place), "all is well again")
    assert place.wait(place.upload("echo hi")) == "Completed"


def test_a_job_that_ends_while_the_object_store_is_down_keeps_its_results(place: Place) -> None:
    number = place.upload("echo result > result; until [ -e go ]; do sleep 0.1; done", user=23)
    place.wait(number, "Running")
    until(lambda: place.get("pod", f"job-{number}-1")["status"]["phase"] == "Running", "it runs")
    with place.stopped("minio"):
        place.touch(f"job-{number}-1")
        assert place.status(number) == "Running"
    assert place.wait(number) == "Completed"


def test_an_upload_while_kubernetes_is_down_is_503_and_leaves_nothing(place: Place) -> None:
    before = place.objects()
    # The supervisor would start it again at once.
    with standing_still(place.pid("local.node")):
        place.kill("kube-apiserver")
        # An upload that is on its way at that moment leaves its files to the sweep: the job may be
        # there. This one comes after it.
        until(lambda: not answers(place), "Kubernetes is down")
        form = {"user_id": "1", "service": "example"}
        files = [("file", ("run.sh", b"echo hi"))]
        answer = httpx2.post(f"{place.front}/upload", data=form, files=files, timeout=60)
        assert answer.status_code == 503
        assert place.objects() <= before
    until(lambda: answers(place), "all is well again")
    assert place.wait(place.upload("echo hi")) == "Completed"


def test_the_api_server_killed_and_back(place: Place) -> None:
    number = place.upload(SLOW, user=24)
    place.wait(number, "Running")
    place.kill("kube-apiserver")
    until(lambda: answers(place), "all is well again")
    finished(place, number)
    finished(place, place.upload("echo hi", user=24))


@pytest.mark.parametrize("live", [True, False], ids=["running", "completed"])
def test_deleting_a_job_removes_its_pod_and_its_objects(place: Place, live: bool) -> None:
    before = place.objects()
    number = place.upload("sleep 300" if live else "echo hi", user=25)
    place.wait(number, "Running" if live else "Completed")
    assert len(place.objects() - before) == 1
    place.kubectl("delete", "orchestratorjob", f"job-{number}")
    until(lambda: not place.get("pod", f"job-{number}-1"), "the pod is gone")
    until(lambda: place.objects() <= before, "the objects are gone")
    assert place.poll(number).status_code == 404


def test_numbers_are_not_used_again_after_deletion_and_restart(place: Place) -> None:
    last = place.upload("echo hi", user=26)
    place.wait(last)
    place.kubectl("delete", "orchestratorjob", f"job-{last}")
    place.kill("api")
    until(lambda: answers(place), "the API is back")
    assert place.upload("echo hi", user=26) > last


def test_the_examples_are_what_kubectl_apply_takes(place: Place) -> None:
    for file in sorted(examples().glob("*.yaml")):
        place.kubectl("apply", "--dry-run=server", f"--filename={file}")
