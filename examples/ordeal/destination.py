#!/usr/bin/python3
"""The destination of ordered streams, and of HTTP: destination.py LOG. It is careful, and logs how each stream has ended."""

import re
import signal
import socket
import sys
import threading

from streams import SILENCE_S, TRUNCATED, WHOLE, WRONG, End, Log, Order, careful, now, pattern

HOSTS = [("192.0.2.4", socket.AF_INET), ("2001:db8::6", socket.AF_INET6)]
STREAMS, HTTP = 7, 80  # ports


def main(path):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    log = Log(path)
    for port, name, serve in (STREAMS, "streams", Order.at_destination), (HTTP, "http", answer):
        for host, family in HOSTS:
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            careful(listener)  # and whoever is accepted there: a death in the queue is a reset, too
            listener.listen(1024)
            threading.Thread(target=accept, args=(listener, name, serve, log), daemon=True).start()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})


def accept(listener, name, serve, log):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=judge, args=(sock, name, serve, log), daemon=True).start()


def judge(sock, name, serve, log):
    since = now()
    sock.settimeout(SILENCE_S)
    try:
        serve(sock)
    except End as end:
        log.line("destination", name, since, now(), end.how, end.why)
    sock.close()


def answer(sock):
    """GET /LENGTH/START[?length]: so many octets, with Content-Length or without."""
    try:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(4096)
            if not piece:
                raise End(TRUNCATED, f"a clean end after {len(head)} octets of a request")
            head += piece
        length, start, is_said = re.match(rb"GET /(\d+)/(\d+)(\?length)? ", head).groups()
        length, start = int(length), int(start)
        said = f"Content-Length: {length}\r\n" if is_said else ""
        sock.sendall(f"HTTP/1.1 200 OK\r\n{said}Connection: close\r\n\r\n".encode())
        for at in range(0, length, 1 << 16):
            sock.sendall(pattern(start + at, min(length - at, 1 << 16)))
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1):
            raise End(WRONG, "more than a request")
    except OSError as error:
        raise End.of(error) from None
    careful(sock, False)
    raise End(WHOLE)


if __name__ == "__main__":
    main(*sys.argv[1:])
