"""Quotas on the real thing: changed by kubectl, in force within seconds, and said why."""

from tests.cluster.place import Place, until


def test_a_quota_of_one_holds_a_second_job_back_and_says_so(place: Place) -> None:
    place.apply("OrchestratorQuota", "one", {"onlyUsers": ["11", "12"], "maxRunning": 1})
    first = place.upload("until [ -e /tmp/never ]; do sleep 0.1; done", user=11)
    place.wait(first, "Running")
    second = place.upload("echo hi", user=12)

    def told() -> bool:
        row = place.kubectl("get", "orchestratorjobs", f"job-{second}", "--no-headers").split()
        return row[3:5] == ["Queued", "ServiceLimit"]

    until(told, "the waiting job says why")
    message = place.poll(second).json()["message"]
    assert message.startswith("Quota one lets 1 job run at once; 1 are running.")
    place.apply("OrchestratorQuota", "one", {"onlyUsers": ["11", "12"], "maxRunning": 2})
    assert place.wait(second) == "Completed"
    assert place.status(first) == "Running"
    place.kubectl("patch", "oj", f"job-{first}", "--type=merge", '-p={"spec":{"terminate":true}}')


def test_ten_example_jobs_run_at_once(place: Place) -> None:
    script = "until [ -e /tmp/never ]; do sleep 0.2; done"
    numbers = [place.upload(script, user=100 + n) for n in range(10)]
    for number in numbers:
        place.wait(number, "Running")
    phases = {place.job(n)["status"]["phase"] for n in numbers}
    assert phases == {"Running"}
    for number in numbers:
        place.kubectl(
            "patch", "oj", f"job-{number}", "--type=merge", '-p={"spec":{"terminate":true}}'
        )
    for number in numbers:
        until(lambda n=number: place.job(n)["status"]["phase"] == "Killed", "it is over")  # type: ignore[misc]


def test_services_quotas_and_pools_say_whether_they_are_ready(place: Place) -> None:
    header, *rows = place.kubectl("get", "oq").splitlines()
    assert header.split() == ["NAME", "RUNNING", "MAX", "QUEUED", "READY", "AGE"]
    assert rows[0].split()[-2] == "True"
    place.apply("OrchestratorQuota", "typo", {"services": ["exmaple"]})

    def judged() -> bool:
        wide = place.kubectl("get", "oq", "typo", "-owide", "--no-headers")
        return "False" in wide and "there is no service exmaple" in wide

    until(judged, "the typing error is found")
