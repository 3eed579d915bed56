"""Streams whose every octet is known to both ends, and how they end. For the other programs of this folder.

An *order* is what a client sends first: how many octets go each way, and how. Both ends then carry their own direction and
judge the other one. A *careful* end has SO_LINGER at zero until it has sent and received everything, so that its death is a
reset: whoever dies between two careful ends, a clean end over less than was ordered is a defect.
"""

import errno
import os
import random
import select
import socket
import struct
import subprocess
import time
from dataclasses import dataclass

SILENCE_S = 10  # more than the gateway takes to give up what a broken stream cannot get rid of (relay.rs, FLUSH)

# How a stream ends. DEFECTS must never be; what is neither that nor WHOLE needs a death as its cause.
WHOLE, RESET, REFUSED = "whole", "reset", "refused"
TRUNCATED, SILENT, WRONG = "truncated", "silent", "wrong"
ENDS = [WHOLE, RESET, REFUSED, TRUNCATED, SILENT, WRONG]
DEFECTS = [TRUNCATED, SILENT, WRONG]

PERIOD = 1_048_573  # a prime: no shift by the size of a buffer or a pipe looks the same
_PATTERN = memoryview(random.Random(3089).randbytes(PERIOD) * 2)


def pattern(start, length):
    """The octets from `start` on, at most PERIOD."""
    start %= PERIOD
    return _PATTERN[start : start + length]


class End(Exception):
    """A stream is over."""

    def __init__(self, how, why=""):
        super().__init__(how, why)
        self.how, self.why = how, why

    @staticmethod
    def of(error):
        """What an OSError of a connection means."""
        if isinstance(error, TimeoutError):
            return End(SILENT)
        # ENOTCONN is what shutdown(2) says to a reset that nothing has seen before it.
        if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            return End(RESET, errno.errorcode[error.errno])
        return End(WRONG, str(error))


@dataclass
class Order:
    """`up` octets to the destination, from `start` of the pattern on; `down` octets to the client, from `start + 1` on.
    A slow end reads and writes little at a time: the other one finds everything full, or waits."""

    up: int
    down: int
    start: int
    is_client_slow: bool = False
    is_destination_slow: bool = False

    FORM = struct.Struct("!QQQ??")

    def packed(self):
        return self.FORM.pack(self.up, self.down, self.start, self.is_client_slow, self.is_destination_slow)

    def at_client(self, sock):
        """Raises the End that it comes to."""
        carry(sock, (self.start, self.up), (self.start + 1, self.down), slow if self.is_client_slow else quick)

    @classmethod
    def at_destination(cls, sock):
        """Takes an order and does that part of it."""
        try:
            order = cls(*cls.FORM.unpack(receive(sock, cls.FORM.size)))
        except OSError as error:
            raise End.of(error) from None
        pace = slow if order.is_destination_slow else quick
        carry(sock, (order.start + 1, order.down), (order.start, order.up), pace)


def careful(sock, on=True):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))


def receive(sock, length):
    """Exactly so many octets."""
    got = b""
    while len(got) < length:
        piece = sock.recv(length - len(got))
        if not piece:
            raise End(TRUNCATED, f"a clean end after {len(got)} of {length} octets of the first message")
        got += piece
    return got


def fill(sock, patience_s):
    """Until nothing more is taken."""
    sock.settimeout(patience_s)
    try:
        while True:
            sock.send(bytes(1 << 16))
    except TimeoutError:
        pass


def quick():
    return 0


def slow():
    return 0.003


def carry(sock, outward, inward, pace=quick):
    """Both directions at once, each (start, length), until both have ended. Raises whatever End they come to.
    `pace` says, each time, how long to wait before the next octets, which then are few."""
    sock.setblocking(False)
    sent = received = 0
    is_writing = is_reading = True
    poll = select.poll()
    while is_writing or is_reading:
        pause = pace()
        most = 1 << 12 if pause else 1 << 16
        if pause:
            time.sleep(pause)
        poll.register(sock, is_reading * select.POLLIN | is_writing * select.POLLOUT)
        if not poll.poll(SILENCE_S * 1000):
            raise End(SILENT, f"{sent} of {outward[1]} octets sent, {received} of {inward[1]} received")
        try:
            if is_reading and (piece := received_piece(sock, inward, received, most)) is not None:
                received += len(piece)
                is_reading = len(piece) > 0
            if is_writing and sent < outward[1]:
                sent += sent_piece(sock, outward, sent, most)
            if is_writing and sent == outward[1]:
                sock.shutdown(socket.SHUT_WR)
                is_writing = False
        except OSError as error:
            raise End.of(error) from None
    careful(sock, False)  # what is still on its way is the kernel's business
    raise End(WHOLE)


def received_piece(sock, inward, received, most):
    start, length = inward
    try:
        piece = sock.recv(most)
    except BlockingIOError:
        return None
    if received + len(piece) > length or piece != pattern(start + received, len(piece)):
        raise End(WRONG, f"within {len(piece)} octets behind {received} of {length}")
    if not piece and received < length:
        raise End(TRUNCATED, f"a clean end after {received} of {length} octets")
    return piece


def sent_piece(sock, outward, sent, most):
    start, length = outward
    try:
        return sock.send(pattern(start + sent, min(length - sent, most)))
    except BlockingIOError:
        return 0


# --- a client of SOCKS5 -------------------------------------------------------------------------------------------

GREETING = b"\5\1\0"


def request(host, port):
    """CONNECT by name (RFC 1928 §4)."""
    name = host.encode()
    return b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack("!H", port)


def ask(sock, host, port, early=b"", pause=None):
    """A whole handshake, octet by octet with a `pause` in between, or in two messages; `early` goes with the request."""

    def send(message):
        if pause is None:
            sock.sendall(message)
            return
        for octet in message:
            sock.sendall(bytes([octet]))
            time.sleep(pause)

    send(GREETING)
    method(sock)
    send(request(host, port) + early)
    reply(sock)


def method(sock):
    if receive(sock, 2) != b"\5\0":
        raise End(WRONG, "no method")


def reply(sock):
    _, rep, _, atyp = receive(sock, 4)
    receive(sock, {1: 4, 4: 16}[atyp] + 2)
    if rep == 5:
        raise End(REFUSED, "REP 05")
    if rep != 0:
        raise End(WRONG, f"REP {rep:02x}")


# --- processes ----------------------------------------------------------------------------------------------------


GATEWAY = ("192.0.2.1", 1080)
NAMES = ["four.example", "six.example"]  # the destination's, which the gateway knows


def start(command, log, **options):
    """A process that says a line on standard output when it is there; the rest goes to a file."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, **options)
    if not process.stdout.readline():
        raise SystemExit(f"does not start: {command}, see {log.name}")
    return process


def start_gateway(namespace, binaries, log, *arguments, **options):
    """In its own view of /etc (ip-netns(8)). The destination is on this host, where nothing is allowed by default."""
    listen = [] if "--config" in arguments else ["--listen", "192.0.2.1:1080", "--allow-client", "192.0.2.0/24", "--log", "warn"]
    local = ["--allow-destination", "192.0.2.0/24", "--allow-destination", "2001:db8::/64"]
    command = ["ip", "netns", "exec", namespace, f"{binaries}/socks6-gateway", *listen, *local, *arguments]
    return start(command, log, **options)


def start_destination(path, log):
    here = os.path.dirname(os.path.abspath(__file__))
    return start(["/usr/bin/python3", "-B", f"{here}/destination.py", path], log)


def now():
    """The same clock in all processes."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Log:
    """Lines of several processes, each in one write(2): whoever is killed leaves none that is cut off."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def line(self, *words):
        os.write(self.fd, ("\t".join(map(str, words)) + "\n").encode())


class Rows:
    """The results: a line for each, and the sum that scripts/test understands."""

    def __init__(self):
        self.passed = self.failed = 0

    def row(self, text, wrong):
        """`wrong` says what is, if anything."""
        self.passed += not wrong
        self.failed += bool(wrong)
        print(f"{text}{'  FAILED: ' + wrong if wrong else ''}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        raise SystemExit(self.failed > 0)
