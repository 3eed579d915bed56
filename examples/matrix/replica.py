"""Asks a redis replica for its health every few milliseconds until it has its master's data: replica.py PORT FILE
The longest wait for an answer goes to stdout, the value of "key" into FILE."""

import socket
import sys
import time

PORT, FILE = int(sys.argv[1]), sys.argv[2]
BEAT_S = 0.005


def ask(stream, command):
    """The value of one bulk reply (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""
    stream.write(command + b"\r\n")
    stream.flush()
    length = int(stream.readline()[1:])
    return stream.read(length + 2)[:-2] if length >= 0 else b""


def connected():
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", PORT))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the replica does not listen")


stream, longest, ends = connected().makefile("rwb"), 0.0, time.monotonic() + 30
while time.monotonic() < ends:
    began = time.monotonic()
    info = ask(stream, b"INFO replication")
    longest = max(longest, time.monotonic() - began)
    if b"master_link_status:up" in info:
        break
    time.sleep(BEAT_S)
print(f"longest gap {longest * 1000:.0f} ms")
with open(FILE, "wb") as file:
    file.write(ask(stream, b"GET key"))
