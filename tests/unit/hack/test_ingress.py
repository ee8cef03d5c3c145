"""The two examples of what stands before the API: an ingress, and an nginx of one's own."""

import yaml

from local.paths import EXAMPLES

PREFIX = "nginx.ingress.kubernetes.io/"
# What the controller makes of its annotations.
DIRECTIVES = {
    "proxy-request-buffering": "proxy_request_buffering {};",
    "proxy-buffering": "proxy_buffering {};",
    "proxy-body-size": "client_max_body_size {};",
    "proxy-read-timeout": "proxy_read_timeout {}s;",
    "proxy-send-timeout": "proxy_send_timeout {}s;",
    "limit-connections": "limit_conn callers {};",
}


def test_both_examples_say_the_same() -> None:
    """Only nginx.conf is tried (tests/proxies); so it speaks for the other."""
    ingress = yaml.safe_load((EXAMPLES / "ingress/ingress.yaml").read_text())
    said = {
        name.removeprefix(PREFIX): value
        for name, value in ingress["metadata"]["annotations"].items()
        if name.startswith(PREFIX)
    }
    lines = (EXAMPLES / "ingress/nginx.conf").read_text().split("\n")
    words = [line.strip() for line in lines]
    assert said.pop("force-ssl-redirect") == "true"
    assert [line for line in words if line.startswith("listen")] == ["listen 443 ssl;"]
    assert said.keys() == DIRECTIVES.keys()
    assert not [name for name, value in said.items() if DIRECTIVES[name].format(value) not in words]
