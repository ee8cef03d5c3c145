"""Tries to connect to each of a list of places, again and again, and prints what came of it, as JSON.

Runs by itself inside a pod: `python3 dial.py PLACES MOMENTS`, both as JSON. A place is a protocol
(tcp, udp or dns), an address and a port; a moment is in seconds after the start.
"""

import errno
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

PATIENCE_SECONDS = 2.0
ANSWER = b"anybody there?"
NAME = b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00"
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + NAME + b"\x00\x01\x00\x01"


def dial(protocol: str, address: str, port: int) -> str:
    """Return `open`, or the error's name; `silence` when nothing came back."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        # With the interface in it, for addresses of this link alone.
        family, _, _, _, target = socket.getaddrinfo(address, port, type=kind)[0]
        with socket.socket(family, kind) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(target)
            if protocol != "tcp":
                connection.send(QUERY if protocol == "dns" else ANSWER)
                connection.recv(512)
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "open"


def main() -> None:
    places, moments = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    begun, rounds = time.monotonic(), []
    with ThreadPoolExecutor(64) as pool:
        for moment in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            rounds.append([pool.submit(dial, *place) for place in places])
        print(json.dumps([[outcome.result() for outcome in found] for found in rounds]))


if __name__ == "__main__":
    main()
