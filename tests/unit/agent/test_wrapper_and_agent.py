"""Agent and wrapper together, as plain processes, against honest and hostile scripts."""

import contextlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator_agent import gate as gates
from orchestrator_agent.gateway import Gateway
from orchestrator_agent.isolation import isolated
from orchestrator_agent.packing import pack
from tests.support.fake_gateway import FakeGateway, fake_gateway
from tests.support.job_folder import CORPUS
from tests.support.pod import PACKAGE, PlainPod, bundle, wait_until


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as state:
        yield state


@pytest.fixture
def pod(tmp_path: Path, gateway: FakeGateway) -> Iterator[PlainPod]:
    made = PlainPod(tmp_path, gateway.url)
    yield made
    made.close()


def results(gateway: FakeGateway) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(gateway.bodies["/results"][-1])) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def run(pod: PlainPod, gateway: FakeGateway, script: str, **main: int | str) -> None:
    gateway.inputs = bundle(run_sh=script)
    pod.start_agent()
    pod.start_main(**main)  # type: ignore[arg-type]
    code, _, err = pod.finish()
    assert code == 0, err


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("code", [0, 3, 127, 255])
def test_the_exit_code_is_told(pod: PlainPod, gateway: FakeGateway, shell: str, code: int) -> None:
    run(pod, gateway, f"exit {code}", shell=shell)
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("exit", code)
    assert pod.main is not None
    assert pod.main.wait() == code


def test_results_hold_inputs_and_what_run_sh_wrote(pod: PlainPod, gateway: FakeGateway) -> None:
    run(pod, gateway, "mkdir sub empty; echo out > sub/result.txt; : > nothing")
    found = results(gateway)
    assert found["sub/result.txt"] == b"out\n"
    assert found["nothing"] == b""
    assert set(found) == {"run.sh", "sub/result.txt", "empty/", "nothing"}
    assert gateway.tokens == {"Bearer secret"}


def test_the_log_is_echoed_and_its_end_is_told(pod: PlainPod, gateway: FakeGateway) -> None:
    gateway.inputs = bundle(run_sh="echo to stdout; echo to stderr >&2; exit 1")
    pod.start_agent()
    pod.start_main()
    _, out, _ = pod.finish()
    assert out == b"to stdout\nto stderr\n"
    assert gateway.end["logTail"] == "to stdout\nto stderr\n"


def test_main_started_before_the_agent_never_runs_ungated(
    pod: PlainPod, gateway: FakeGateway, tmp_path: Path
) -> None:
    gateway.inputs = bundle(run_sh="echo ran > ran")
    (pod.work / "run.sh").write_text("echo ungated > ungated")
    pod.start_main()
    pod.signal_main(0)  # it lives
    with pytest.raises(Exception, match="timed out"):
        assert pod.main is not None
        pod.main.wait(timeout=1)
    assert not (pod.work / "ungated").exists()
    (pod.work / "run.sh").unlink()
    pod.start_agent()
    pod.finish()
    assert set(results(gateway)) == {"run.sh", "ran"}


def test_a_refused_agent_opens_no_gate(pod: PlainPod, gateway: FakeGateway) -> None:
    gateway.inputs = bundle(run_sh="echo ran > ran")
    gateway.failures["/start"] = [409]
    pod.start_agent()
    pod.start_main()
    assert pod.finish()[0] == 0
    assert gateway.calls == ["/start"]
    assert pod.main is not None
    # It is let go, and has run nothing.
    assert pod.main.wait(timeout=5) == 143
    assert not (pod.work / "ran").exists()


def test_a_gateway_that_is_away_is_waited_for(pod: PlainPod, gateway: FakeGateway) -> None:
    for path in ("/start", "/inputs", "/canary", "/results", "/end"):
        gateway.failures[path] = [503, 503]
    run(pod, gateway, "exit 0")
    assert gateway.end["exitCode"] == 0
    assert gateway.calls.count("/results") == 3


def test_inputs_that_differ_from_the_record_are_never_unpacked(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs, gateway.inputs_sha256 = bundle(run_sh="exit 0"), "0" * 64
    pod.start_agent()
    code, _, err = pod.finish()
    assert code == 1
    assert b"SHA-256 differs" in err
    assert gateway.end["why"] == "corrupt"
    # The bytes may have been damaged on the way.
    assert gateway.calls.count("/inputs") == 5
    assert os.listdir(pod.work) == []


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a/b", ".."])
def test_a_bundle_with_a_path_in_it_is_refused(
    pod: PlainPod, gateway: FakeGateway, name: str
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    gateway.inputs = buffer.getvalue()
    pod.start_agent()
    assert pod.finish()[0] == 1
    assert gateway.end["why"] == "corrupt"
    assert os.listdir(pod.work) == []


@pytest.mark.parametrize(("status", "why"), [(404, "inputs"), (410, "corrupt")])
def test_inputs_that_are_missing_or_replaced_are_told_apart(
    pod: PlainPod, gateway: FakeGateway, status: int, why: str
) -> None:
    gateway.failures["/inputs"] = [status] * 9
    pod.start_agent()
    assert pod.finish()[0] == 1
    assert gateway.end["why"] == why


def test_an_open_network_stops_the_job_before_it_starts(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh="echo ran > ran")
    # A canary that does not listen proves nothing, so it counts as an open network.
    gateway.canary = {"port": 9, "listening": False}
    pod.start_agent()
    pod.start_main()
    assert pod.finish()[0] == 1
    assert gateway.end["why"] == "network"
    assert not (pod.work / "ran").exists()


def test_best_effort_goes_on_with_an_open_network(pod: PlainPod, gateway: FakeGateway) -> None:
    gateway.inputs = bundle(run_sh="echo ran > ran")
    gateway.canary = {"port": 9, "listening": False}
    pod.start_agent(isolation="BestEffort")
    pod.start_main()
    assert pod.finish()[0] == 0
    assert "ran" in results(gateway)


def test_the_deadline_ends_run_sh(pod: PlainPod, gateway: FakeGateway) -> None:
    run(pod, gateway, "echo began > began; sleep 60", deadline=1)
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("deadline", 143)
    assert "began" in results(gateway)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_run_sh_that_ignores_sigterm_is_killed_after_the_grace(
    pod: PlainPod, gateway: FakeGateway, shell: str
) -> None:
    run(pod, gateway, "trap '' TERM; while :; do sleep 0.1; done", deadline=1, grace=1, shell=shell)
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("deadline", 137)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_sigterm_ends_run_sh_and_keeps_its_results(
    pod: PlainPod, gateway: FakeGateway, shell: str
) -> None:
    gateway.inputs = bundle(
        run_sh="trap 'echo saved > saved; exit 7' TERM; : > up; while :; do sleep 0.1; done"
    )
    pod.start_agent()
    pod.start_main(shell=shell, grace=20)
    wait_until((pod.work / "up").exists, "run.sh runs")
    assert pod.agent is not None
    pod.agent.send_signal(signal.SIGTERM)  # the kubelet tells both
    pod.signal_main(signal.SIGTERM)
    assert pod.finish()[0] == 0
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("terminated", 7)
    assert results(gateway)["saved"] == b"saved\n"


def test_daemons_that_run_sh_leaves_do_not_hold_up_the_end(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(
        pod,
        gateway,
        "(setsid bash -c 'trap \"\" TERM HUP; while :; do date >> ticks; sleep 0.01; done' &) ; sleep 0.1",
    )
    assert gateway.end["exitCode"] == 0


def test_a_main_that_dies_without_a_word_leaves_no_exit_code(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh=": > up; sleep 60")
    pod.start_agent()
    pod.start_main()
    wait_until((pod.work / "up").exists, "run.sh runs")
    pod.signal_main(signal.SIGKILL)
    assert pod.finish()[0] == 0
    assert gateway.end["why"] == "lost"
    assert "exitCode" not in gateway.end
    assert "up" in results(gateway)


def test_a_pod_told_to_end_before_main_came_through_the_gate_ends(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh="exit 0")
    pod.start_agent(late_seconds=0)
    wait_until(lambda: "/canary" in gateway.calls, "the agent waits at the gate")
    assert pod.agent is not None
    pod.agent.send_signal(signal.SIGTERM)
    code, _, err = pod.finish()
    assert code == 0
    assert gateway.end["why"] == "lost"
    # Before that, the administrator is told what may be wrong.
    assert err.count(b"has not come through its gate") == 1


def test_run_sh_cannot_write_an_exit_record(pod: PlainPod, gateway: FakeGateway) -> None:
    # The gate is closed to it; what it can reach is the log.
    run(pod, gateway, "for f in 3 4 5 6 7 8 9; do echo 'exit 0 0' >&$f; done 2>/dev/null; exit 5")
    assert gateway.end["exitCode"] == 5


def test_a_word_of_run_sh_in_the_gate_is_not_the_last_word(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(
        pod,
        gateway,
        'for i in $(seq 2000); do echo "exit 0 0"; done > "$ORCHESTRATOR_JOB_FOLDER/gate"; exit 5',
    )
    assert gateway.end["exitCode"] == 5


def test_unreadable_files_and_folders_are_in_the_results_all_the_same(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(
        pod,
        gateway,
        "mkdir -p a/b; echo x > a/b/file; echo y > shut; chmod 000 shut a/b; chmod 600 a",
    )
    assert {"a/b/file", "shut"} <= set(results(gateway))


def test_a_sparse_file_does_not_become_a_zip_that_bursts(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "truncate -s 2T huge")
    assert "results" not in gateway.end
    assert "more than" in gateway.end["tooLarge"]


def test_a_very_deep_tree_costs_only_its_depths(pod: PlainPod, gateway: FakeGateway) -> None:
    script = "for i in $(seq 400); do mkdir d && cd d || exit 9; done; echo x > deep; cd /; exit 0"
    run(pod, gateway, script)
    assert gateway.end["exitCode"] == 0
    assert "run.sh" in results(gateway)


def test_a_store_that_stays_away_loses_the_results_but_not_the_report(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh="exit 0")
    gateway.failures["/results"] = [503] * 99
    pod.start_agent(upload_seconds=1)
    pod.start_main()
    assert pod.finish()[0] == 0
    assert gateway.end["exitCode"] == 0
    assert "503" in gateway.end["resultsLost"]


def test_a_run_sh_that_kills_the_deadlines_timer_is_not_too_late(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "pkill sleep; exit 0")
    assert gateway.end["why"] == "exit"


def test_main_may_hear_of_the_end_of_its_pod_before_the_agent_does(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh="echo up > up; sleep 60")
    pod.start_agent()
    pod.start_main()
    wait_until((pod.work / "up").exists, "run.sh runs")
    pod.signal_main(signal.SIGTERM)
    wait_until(lambda: "/results" in gateway.calls, "the results are saved")
    assert pod.agent is not None
    pod.agent.send_signal(signal.SIGTERM)
    assert pod.finish()[0] == 0
    assert gateway.end["why"] == "terminated"


def test_a_main_that_never_heard_of_the_end_of_its_pod_is_told_by_the_agent(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    # A signal to a first process that has no handler for it yet is lost; run.sh ran on to its end.
    gateway.inputs = bundle(
        run_sh="trap 'echo saved > saved; exit 7' TERM; : > up; sleep 60 & wait"
    )
    pod.start_agent()
    pod.start_main(grace=20)
    wait_until((pod.work / "up").exists, "run.sh runs")
    assert pod.agent is not None
    pod.agent.send_signal(signal.SIGTERM)
    assert pod.finish()[0] == 0
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("terminated", 7)
    assert results(gateway)["saved"] == b"saved\n"


def test_a_run_sh_that_signals_its_first_process_ended_by_itself(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "kill -TERM 1; sleep 30")
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("exit", 143)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_signal_while_run_sh_is_being_started_does_not_hide_its_exit_code(
    pod: PlainPod, gateway: FakeGateway, shell: str
) -> None:
    # The wrapper took the process that its trap had started for run.sh, and told its 0.
    run(pod, gateway, "kill -TERM 1; sleep 30", shell=shell, slow_line="child=$!")
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("exit", 143)


def test_a_flood_of_log_is_capped_and_both_ends_are_kept(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert gateway.end["exitCode"] == 0
    assert gateway.end["logTail"].endswith("x\nlast\n")


def test_symlinks_and_fifos_are_left_out_of_the_results(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "ln -s /etc/passwd link; mkfifo pipe; ln -s /etc dir; echo yes > file")
    assert set(results(gateway)) == {"run.sh", "file"}


def test_a_job_that_closes_its_output_does_not_look_ended(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "exec >&- 2>&-; sleep 1; echo late > late")
    assert results(gateway)["late"] == b"late\n"


def test_results_that_are_too_large_are_told_and_not_sent_again(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.failures["/results"] = [413]
    run(pod, gateway, "exit 0")
    assert gateway.calls.count("/results") == 1
    assert "413" in gateway.end["tooLarge"]


def test_the_wrapper_refuses_to_be_anything_but_pid_1(pod: PlainPod) -> None:
    # It signals every process it sees: outside a container that would be everybody's.
    wrapper = (PACKAGE / "wrapper.sh").read_text()
    done = subprocess.run(
        ["sh", "-c", wrapper, "wrapper", "1", "1", "true"], capture_output=True, check=False
    )
    assert done.returncode == 125
    assert b"must be PID 1" in done.stderr


def test_the_canary_is_really_dialled(gateway: FakeGateway) -> None:
    token = Path("/dev/null")
    with socket.create_server(("127.0.0.1", 0)) as open_port:
        port = open_port.getsockname()[1]
        # Nobody can be reached at 192.0.2.1; nor does it matter where the Service still leads.
        for host in ("192.0.2.1", "127.0.0.1", "", "::ffff:127.0.0.1", "nowhere"):
            gateway.canary = {"host": host, "port": port, "listening": True}
            assert not isolated(Gateway(gateway.url, token), lambda: True, patience=0.3), host
    assert isolated(Gateway(gateway.url, token), lambda: True, patience=0.3)


def test_only_the_replica_that_was_dialled_can_say_that_its_canary_listens(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That one is on its way out: nobody could reach it, policy or none.
    answers = itertools.cycle(
        {"host": f"192.0.2.{n}", "port": 9, "listening": n == 2} for n in (1, 2)
    )
    monkeypatch.setattr(FakeGateway, "answer", lambda *_: json.dumps(next(answers)).encode())
    assert not isolated(Gateway(gateway.url, Path("/dev/null")), lambda: True, patience=0.3)


def test_patience_for_the_policy_begins_when_main_waits(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    """On a crowded node the pod's address was told half a minute late, and with it the policy."""
    gateway.inputs = bundle(run_sh="echo ran > ran")
    with socket.create_server(("127.0.0.1", 0)) as still_open:
        gateway.canary = {"port": still_open.getsockname()[1], "listening": True}
        pod.start_agent(patience_seconds=5)
        wait_until(lambda: gateway.calls.count("/canary") > 20, "the agent looks for a while")
        time.sleep(5)
        assert "/end" not in gateway.calls
        pod.start_main()
        looks = gateway.calls.count("/canary")
        wait_until(lambda: gateway.calls.count("/canary") > looks + 2, "the agent looks again")
    assert pod.finish()[0] == 0
    assert "ran" in results(gateway)


def test_a_main_that_was_only_looked_for_waits_on(pod: PlainPod) -> None:
    gates.make(pod.job)
    assert not gates.awaited(pod.job)
    pod.start_main()
    assert pod.main is not None
    wait_until(lambda: gates.awaited(pod.job), "the wrapper waits")
    for _ in range(500):
        gates.awaited(pod.job)
    time.sleep(0.5)  # whoever took one for the start has ended by now
    wait_until(lambda: gates.awaited(pod.job), "the wrapper waits again")
    assert pod.main.poll() is None
    gates.dismiss(pod.job)
    assert pod.main.wait(timeout=5) == 143


def test_progress_is_told_when_it_changes_and_at_the_end(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    script = """
    echo 1/3 docking > $ORCHESTRATOR_PROGRESS
    echo 2/3 refining > $ORCHESTRATOR_PROGRESS
    sleep 1
    echo 3/3 scoring > $ORCHESTRATOR_PROGRESS
    """
    run(pod, gateway, script)
    told = [json.loads(body)["text"] for body in gateway.bodies["/progress"]]
    assert told == ["2/3 refining"]
    assert gateway.end["progress"] == "3/3 scoring"


def test_a_flood_of_progress_is_no_flood_of_requests(pod: PlainPod, gateway: FakeGateway) -> None:
    run(pod, gateway, "for i in $(seq 20000); do echo $i/20000; done > $ORCHESTRATOR_PROGRESS")
    assert len(gateway.bodies.get("/progress", [])) <= 1
    assert gateway.end["progress"] == "20000/20000"


def test_progress_without_an_end_of_line_is_no_progress(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(pod, gateway, "head -c 3000000 /dev/zero > $ORCHESTRATOR_PROGRESS; exit 4")
    assert gateway.end["progress"] == ""
    assert gateway.end["exitCode"] == 4


@pytest.mark.parametrize("place", ["work", "scratch"])
def test_a_job_that_fills_its_disk_is_stopped_and_keeps_what_it_has(
    pod: PlainPod, gateway: FakeGateway, place: str
) -> None:
    folder = getattr(pod, place)
    gateway.inputs = bundle(
        run_sh=f"trap 'echo stopped > note; exit 7' TERM; echo kept > kept\n"
        f"while :; do head -c 1000000 /dev/zero >> {folder}/big; sleep 0.01; done"
    )
    pod.start_agent(disk_bytes=20_000_000)
    pod.start_main()
    code, _, err = pod.finish()
    assert code == 0
    assert gateway.end["why"] == "disk"
    assert b"stopping the job: it uses" in err
    with zipfile.ZipFile(io.BytesIO(gateway.bodies["/results"][-1])) as archive:
        assert {archive.read(name) for name in ("kept", "note")} == {b"kept\n", b"stopped\n"}


def test_what_is_left_out_is_told(pod: PlainPod, gateway: FakeGateway) -> None:
    run(pod, gateway, "ln -s /etc/passwd link; mkfifo pipe; echo x > file")
    assert (gateway.end["skippedCount"], sorted(gateway.end["skipped"])) == (2, ["link", "pipe"])
    with zipfile.ZipFile(io.BytesIO(gateway.bodies["/results"][-1])) as archive:
        assert set(archive.namelist()) == {"run.sh", "file"}
        assert archive.comment.decode().splitlines()[1:] == ["link", "pipe"]


def test_a_large_working_directory_is_saved_only_when_somebody_asks(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.inputs = bundle(run_sh="head -c 100000 /dev/zero > big; sleep 13")
    pod.start_agent(snapshot_bytes=50_000)
    pod.start_main()
    wait_until(lambda: "/snapshot-wanted" in gateway.calls, "the agent asks")
    assert gateway.calls.count("/snapshots-on-request") == 1
    assert "/snapshot" not in gateway.calls
    gateway.wanted_at = "2026-01-01T00:00:00Z"
    wait_until(lambda: "/snapshot" in gateway.calls, "it is saved")
    pod.finish()
    assert gateway.calls.count("/snapshot") == 1


def test_a_file_that_changes_while_it_is_read_is_marked(tmp_path: Path) -> None:
    (tmp_path / "still").write_bytes(bytes(1000))
    (tmp_path / "busy").write_bytes(bytes(10_000_000))

    class Touching(io.BytesIO):
        def write(self, data: Any) -> int:
            with (tmp_path / "busy").open("ab") as file:
                file.write(b"more")
            return super().write(data)

    out = Touching()
    pack(tmp_path, out, 1 << 30)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("busy").comment == b"changed while it was read"
        assert archive.getinfo("still").comment == b""
        assert archive.getinfo("busy").file_size >= 10_000_000


def test_an_end_that_is_too_long_to_be_told_is_told_without_details(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    gateway.failures["/end"] = [413]
    run(pod, gateway, "echo much; exit 5")
    assert gateway.end["exitCode"] == 5
    assert "logTail" not in gateway.end


def test_the_longest_report_is_not_too_long(pod: PlainPod, gateway: FakeGateway) -> None:
    script = """
    for n in $(seq 30); do ln -s x "$n$(printf '\\360\\237\\246\\240%.0s' $(seq 60))"; done
    head -c 100000 /dev/urandom
    """
    run(pod, gateway, script)
    assert gateway.end["skippedCount"] == 30
    assert len(gateway.bodies["/end"][-1]) < 64 * 1024


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("fifos", [True, False], ids=["at the gate", "before there is one"])
def test_a_main_that_waits_for_its_start_hears_sigterm(
    pod: PlainPod, shell: str, fifos: bool
) -> None:
    """Its agent was refused and is gone; else the pod would hold its quota for the whole grace."""
    if fifos:
        gates.make(pod.job)
    pod.start_main(shell=shell, deadline=3600)
    assert pod.main is not None
    wait_until(lambda: pod.main_hears(signal.SIGTERM), "the wrapper can hear SIGTERM")
    time.sleep(0.3)  # and has come to where it waits
    pod.signal_main(signal.SIGTERM)
    assert pod.main.wait(timeout=5) == 143


@pytest.mark.parametrize("first", ["agent", "main"])
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_refused_agent_lets_main_go_without_a_signal(
    pod: PlainPod, gateway: FakeGateway, shell: str, first: str
) -> None:
    """A SIGTERM that comes before the first process has a handler is lost."""
    gateway.failures["/start"] = [409]
    if first == "agent":
        pod.start_agent()
        assert pod.finish()[0] == 0
        pod.start_main(shell=shell, deadline=3600)
    else:
        pod.start_main(shell=shell, deadline=3600)
        time.sleep(0.2)
        pod.start_agent()
        assert pod.finish()[0] == 0
    assert pod.main is not None
    assert pod.main.wait(timeout=5) == 143


@pytest.mark.parametrize("kind", ["touch", "mkfifo"])
def test_a_job_that_makes_no_end_of_empty_files_is_stopped(
    pod: PlainPod, gateway: FakeGateway, kind: str
) -> None:
    gateway.inputs = bundle(
        run_sh=f"for n in $(seq 20); do mkdir $n; {kind} $n/{{1..100}}; done; sleep 60"
    )
    pod.start_agent(disk_bytes=4_000_000)
    pod.start_main()
    assert pod.finish()[0] == 0
    assert gateway.end["why"] == "disk"


def test_run_sh_cannot_write_to_the_containers_own_log(pod: PlainPod, gateway: FakeGateway) -> None:
    run(pod, gateway, "echo flood > /proc/1/fd/1; echo flood > /proc/1/fd/2; exit 5")
    assert gateway.end["exitCode"] == 5
    assert pod.main is not None
    assert pod.main.stderr is not None
    assert b"flood" not in pod.main.stderr.read()


SWAPPER = """
import ctypes, sys
libc, exchange = ctypes.CDLL(None, use_errno=True), 2
first, second = (word.encode() for word in sys.argv[1:3])
for _ in range(100_000):
    assert libc.renameat2(-100, first, -100, second, exchange) == 0
"""


def followed(folder: Path) -> bytes:
    """Return what a packer finds that looks first and opens afterwards, by path."""
    found = b""
    for inner in (folder / "d", folder / "f"):
        with contextlib.suppress(OSError):
            if not inner.is_symlink():
                found += (inner / "x" if inner.is_dir() else inner).read_bytes()
    return found


def test_a_hundred_thousand_swaps_for_links_while_packing_let_nothing_in(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    for folder in (work, work / "d", outside):
        folder.mkdir()
    (outside / "x").write_text("secret")
    (work / "d/x").write_text("own")
    (work / "f").write_text("own")
    (tmp_path / "link-d").symlink_to(outside)
    (tmp_path / "link-f").symlink_to(outside / "x")
    swappers = [
        subprocess.Popen([sys.executable, "-c", SWAPPER, work / name, tmp_path / f"link-{name}"])
        for name in ("d", "f")
    ]
    packed, fooled = 0, False
    while any(swapper.poll() is None for swapper in swappers):
        buffer = io.BytesIO()
        pack(work, buffer, 1 << 20)
        with zipfile.ZipFile(buffer) as archive:
            assert {archive.read(name) for name in archive.namelist()} <= {b"own", b""}
        packed += 1
        fooled = fooled or b"secret" in followed(work)
    assert [swapper.returncode for swapper in swappers] == [0, 0]
    assert packed > 10
    assert fooled, "the race was no race"


def test_sockets_and_devices_are_left_out_of_the_results(
    pod: PlainPod, gateway: FakeGateway
) -> None:
    run(
        pod,
        gateway,
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'; ln -s /dev/zero z; "
        "ln -s /proc/self/environ e; ln -s / root; echo x > file",
    )
    assert set(results(gateway)) == {"run.sh", "file"}
    assert sorted(gateway.end["skipped"]) == ["e", "root", "s", "z"]


@pytest.mark.parametrize("line", ["  kill_later 2>/dev/null &", '  sleep "$grace"'])
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_wrapper_that_cannot_fork_any_more_still_tells_how_it_ended(
    pod: PlainPod, gateway: FakeGateway, shell: str, line: str
) -> None:
    # What a shell does after a fork bomb, at the line where it would have forked.
    run(pod, gateway, "trap '' TERM; sleep 60", shell=shell, deadline=1, failing_line=line)
    assert gateway.end["why"] == "deadline"


@pytest.mark.parametrize("name", CORPUS)
def test_a_run_sh_that_turns_on_the_agent_and(
    pod: PlainPod, gateway: FakeGateway, name: str
) -> None:
    """Here it may write to /job, which is read-only in a real pod."""
    script, why, code = CORPUS[name]
    run(pod, gateway, script)
    assert (gateway.end["why"], gateway.end["exitCode"]) == (why, code)
    assert "run.sh" in results(gateway)
    assert len(gateway.bodies["/end"][-1]) < 16_000


@pytest.mark.parametrize("kind", ["link", "file"])
def test_the_agent_writes_into_nothing_but_its_own_fifos(
    pod: PlainPod, gateway: FakeGateway, tmp_path: Path, kind: str
) -> None:
    """Told to stop a job, it followed a link that the job had put in the place of `stop`."""
    victim = tmp_path / "victim"
    victim.write_text("its own")
    made = f"ln -s {victim} $J/stop" if kind == "link" else "echo 'its own' > $J/stop"
    gateway.inputs = bundle(
        run_sh=f"J=$ORCHESTRATOR_JOB_FOLDER; rm $J/stop; {made}\n"
        "head -c 3000000 /dev/zero > big; sleep 3; cat $J/stop > seen; exit 5"
    )
    pod.start_agent(disk_bytes=1_000_000)
    pod.start_main()
    assert pod.finish()[0] == 0
    assert (gateway.end["why"], gateway.end["exitCode"]) == ("exit", 5)
    assert results(gateway)["seen"].strip() == b"its own"
    assert victim.read_text() == "its own"
