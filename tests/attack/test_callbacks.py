"""Addresses of callbacks that lead elsewhere: into the cluster, back to us, or on to another host."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from local.paths import NAMESPACE
from tests.cluster.inside import PORT, served
from tests.cluster.place import Place, until
from tests.cluster.test_life import SMALL, service

# Tells of every request, and sends those to /on to another name of its own.
NAME, PATTERN = "callback-sink", f"http://*.{NAMESPACE}.svc:{PORT}"
SINK = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print(self.headers["Host"] + self.path, flush=True)
        self.send_response(307 if self.path == "/on" else 200)
        self.send_header("Location", "http://{NAME}:{PORT}/followed")
        self.end_headers()
    do_GET = do_POST
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""
HOST = f"{NAME}.{NAMESPACE}.svc"


@pytest.fixture
def sink(place: Place) -> Iterator[str]:
    """Serve inside the cluster, under a name that is allowed; gives the address of that name."""
    with served(place, NAME, SINK):
        yield str(place.get("service", NAME, NAMESPACE)["spec"]["clusterIP"])


def told(place: Place) -> list[str]:
    return place.kubectl("logs", f"--namespace={NAMESPACE}", NAME).split()


def ends(place: Place, name: str, url: str) -> None:
    """Have a job end that is to be told at *url*, made by whoever may make jobs."""
    spec = {"service": "tells", "userID": "1", "script": "exit 0", "callbackURL": url}
    place.apply("OrchestratorJob", name, spec)


def state(place: Place, name: str) -> tuple[str, str]:
    found = place.get("oj", name).get("status", {}).get("callback", {})
    return found.get("state", ""), found.get("message", "")


def test_a_callback_leads_nowhere_that_is_not_allowed(place: Place, sink: str) -> None:
    kubernetes = place.get("service", "kubernetes", "default")["spec"]["clusterIP"]
    api = place.get("service", "orchestrator-api", NAMESPACE)["spec"]["clusterIP"]
    elsewhere = [
        # The very same server by its address, at another port, by another name.
        f"http://{sink}:{PORT}/address", f"http://{HOST}:81/port", f"http://{NAME}:{PORT}/short",
        f"http://{HOST}.:{PORT}/dot", f"http://{HOST}@{sink}:{PORT}/user", f"https://{HOST}:{PORT}/tls",
        f"https://{kubernetes}/", "https://kubernetes.default.svc/", f"http://{api}:5000/terminate/1",
        "http://127.0.0.1:8083/", f"http://localhost:{PORT}/", f"http://2130706433:{PORT}/",
        f"http://[::1]:{PORT}/", f"http://[::ffff:127.0.0.1]:{PORT}/", "http://169.254.169.254/latest/meta-data",
    ]  # fmt: skip
    service(place, "tells", resources=SMALL)
    names = {f"tells-{n}": url for n, url in enumerate(elsewhere)}
    for name, url in names.items():
        # Some are no addresses that a job may have, in the first place.
        with suppress(AssertionError):
            ends(place, name, url)
    there = [name for name in names if place.get("oj", name)]
    assert len(there) > len(names) // 2
    for name in there:
        until(lambda name=name: state(place, name)[0], f"{names[name]} is looked at", 120)  # type: ignore[misc]
        until(lambda name=name: state(place, name)[0] != "Pending", f"{names[name]} is judged")  # type: ignore[misc]
        assert state(place, name)[0] == "Refused", names[name]
    assert told(place) == []
    # The counter-proof: it is there, and called where that is allowed; and not left for another.
    ends(place, "tells-on", f"http://{HOST}:{PORT}/on")
    until(lambda: "It answered 307." in state(place, "tells-on"), "it was sent on")
    ends(place, "tells-well", f"http://{HOST}:{PORT}/well")
    until(lambda: state(place, "tells-well")[0] == "Delivered", "it is told")
    assert {f"{HOST}:{PORT}/on", f"{HOST}:{PORT}/well"} == set(told(place))


def test_a_pattern_leads_to_no_address_of_the_clusters_own(place: Place, sink: str) -> None:
    service(place, "tells", resources=SMALL)
    with place.configured(f"callbacks.allowedHosts[0]={PATTERN}"):
        ends(place, "tells-inward", f"http://{HOST}:{PORT}/inward")
        until(lambda: "It cannot be reached" in state(place, "tells-inward")[1], "it was tried")
        assert f"{HOST}:{PORT}/inward" not in told(place)
    # The counter-proof: where its very name is allowed, it is told.
    until(lambda: state(place, "tells-inward")[0] == "Delivered", "it is told")
    assert f"{HOST}:{PORT}/inward" in told(place)
