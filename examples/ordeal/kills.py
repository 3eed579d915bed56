#!/usr/bin/python3
"""kill -9 of clients, gateway and destination at random under load: what survives is exact, and what does not is reset.

For scripts/ordeal, in whose namespace it runs: kills.py SECONDS NAMESPACE BINARIES SCRATCH. It starts itself in other
roles: `clients WAY LOG` and `curls LIBRARY LOG`. All ends are careful (streams.py), curl's excepted: it only receives, from a
destination that is.
"""

import errno
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

from destination import HOSTS, STREAMS
from streams import (DEFECTS, ENDS, GATEWAY, NAMES, REFUSED, RESET, SILENT, TRUNCATED, WHOLE, WRONG, End, Log, Order, Rows, ask,
                     careful, now, pattern, start_destination, start_gateway)

SIZES = [0, 1, 1_000, 70_000, 400_000, 3_000_000]
THREADS = 4  # in each process of clients
# Kills come in bursts, with a calm between them in which nothing may end otherwise than whole, once the last burst is over: on
# a busy machine a destination accepts, and sees the reset of, what has died half a second ago.
BURST, CALM_S, AFTERWARDS_S = 8, 3, 1.2

is_over = threading.Event()


def until_over(work):
    """Several threads of this process at it, until SIGTERM lets them finish what they have begun."""
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())

    def loop():
        while not is_over.is_set():
            work()

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- clients ------------------------------------------------------------------------------------------------------


def client(way, log):
    rng = random.Random()
    order = Order(rng.choice(SIZES), rng.choice(SIZES), rng.randrange(1 << 32), rng.random() < 0.2, rng.random() < 0.2)
    since = now()
    sock = None
    try:
        sock, is_ordered = {"socks": by_socks, "shim": by_name, "direct": directly}[way](rng, order)
        if rng.random() < 0.3:
            time.sleep(rng.random() / 2)  # between the reply and the first octet
        if not is_ordered:
            sock.sendall(order.packed())
        order.at_client(sock)
    except End as end:
        over = end
    except OSError as error:
        over = End.of(error)
    log.line("client", way, since, now(), over.how, over.why)
    if sock is not None:
        sock.close()
    if over.how == REFUSED:
        time.sleep(0.05)


def connected(family, to):
    sock = socket.socket(family)
    careful(sock)
    sock.settimeout(20)
    try:
        sock.connect(to)
    except OSError as error:
        sock.close()
        # Under the library ENETUNREACH says that the gateway could not be reached, or was lost in the handshake.
        if error.errno in (errno.ECONNREFUSED, errno.ENETUNREACH):
            raise End(REFUSED, errno.errorcode[error.errno]) from None
        raise
    return sock


def by_socks(rng, order):
    sock = connected(socket.AF_INET, GATEWAY)
    is_early = rng.random() < 0.25
    ask(sock, rng.choice(NAMES), STREAMS, order.packed() if is_early else b"", 0.002 if rng.random() < 0.1 else None)
    return sock, is_early


def by_name(rng, _):
    info = socket.getaddrinfo(rng.choice(NAMES), STREAMS, rng.choice([socket.AF_INET, socket.AF_INET6]), socket.SOCK_STREAM)
    return connected(info[0][0], info[0][4]), False


def directly(rng, _):
    host, family = rng.choice(HOSTS)
    return connected(family, (host, STREAMS)), False


CURL_ENDS = {7: REFUSED, 18: TRUNCATED, 28: SILENT, 52: TRUNCATED, 55: RESET, 56: RESET}


def curl(library, log):
    """One fetch. Without Content-Length nothing but the connection's end says that it is complete."""
    rng = random.Random()
    length, start, is_said = rng.choice(SIZES[1:]), rng.randrange(1 << 20), rng.random() < 0.5
    url = f"http://{rng.choice(NAMES)}/{length}/{start}{'?length' if is_said else ''}"
    family = rng.choice(["-4", "-6"])  # with both, it closes the connection of the slower one without a request
    command = ["curl", "-sS", family, "--speed-limit", "1", "--speed-time", "10", "--connect-timeout", "20", url]
    since = now()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LD_PRELOAD": library})
    if rng.random() < 0.1:
        threading.Timer(rng.random() / 10, kill_curl, (run, log)).start()
    body, said = run.communicate()
    if run.returncode == -signal.SIGKILL:
        return
    over = CURL_ENDS.get(run.returncode, WRONG)
    if run.returncode == 0:
        whole = b"".join(pattern(start + at, min(length - at, 1 << 16)) for at in range(0, length, 1 << 16))
        is_whole = hashlib.sha256(body).digest() == hashlib.sha256(whole).digest()
        over = WHOLE if is_whole else TRUNCATED if whole.startswith(body) else WRONG
    why = f"{len(body)} of {length} octets, {run.returncode}: {said.decode().strip()}"
    log.line("client", "curl-length" if is_said else "curl", since, now(), over, why)


def kill_curl(run, log):
    since = now()
    run.kill()
    log.line("kill", "curl", since, now())


# --- the killing --------------------------------------------------------------------------------------------------


class Killing:
    """All processes, of which one is killed and started again every now and then."""

    CLIENTS = ["socks", "socks", "socks", "shim", "shim", "direct", "curls"]

    def __init__(self, namespace, binaries, scratch):
        self.path = f"{scratch}/streams.log"
        self.log = Log(self.path)
        self.said = open(f"{scratch}/processes.log", "ab")
        self.start_server = {
            "gateway": lambda: start_gateway(namespace, binaries, self.said),
            "destination": lambda: start_destination(self.path, self.said),
        }
        self.library = f"{binaries}/libsocks6.so"
        self.env = {**os.environ, "SOCKS6_GATEWAY": "%s:%d" % GATEWAY, "SOCKS6_TABLE": f"{scratch}/table"}
        self.running = [(role, self.start(role)) for role in [*self.start_server, *self.CLIENTS]]
        self.kills = Counter()

    def start(self, role):
        if role in self.start_server:
            return self.start_server[role]()
        words = ["curls", self.library] if role == "curls" else ["clients", role]
        preloaded = {"LD_PRELOAD": self.library} if role == "shim" else {}
        return subprocess.Popen(["/usr/bin/python3", "-B", os.path.abspath(__file__), *words, self.path],
                                env={**self.env, **preloaded}, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)

    def one(self):
        kind = random.choices(["gateway", "destination", "client"], [4, 3, 3])[0]
        roles = self.CLIENTS if kind == "client" else [kind]
        index = random.choice([i for i, (role, _) in enumerate(self.running) if role in roles])
        role, process = self.running[index]
        since = now()
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
        self.running[index] = role, self.start(role)
        self.log.line("kill", kind, since, now())
        self.kills[kind] += 1

    def end(self):
        """Clients first, who finish what they have begun."""
        for is_server in False, True:
            some = [process for role, process in self.running if (role in self.start_server) == is_server]
            for process in some:
                if process.poll() is not None:
                    raise SystemExit(f"{process.args} has ended by itself: see {self.said.name}")
                process.terminate()
            for process in some:
                process.wait(60)


def run(seconds, namespace, binaries, scratch):
    killing = Killing(namespace, binaries, scratch)
    end = now() + seconds
    while now() < end:
        for _ in range(BURST):
            time.sleep(random.uniform(0.1, 0.9))
            killing.one()
        time.sleep(CALM_S)
    killing.end()
    print(f"killed in {seconds} seconds: " + ", ".join(f"{n} times a {kind}" for kind, n in killing.kills.items()))
    with open(killing.path) as lines:
        judge(line.rstrip("\n").split("\t") for line in lines)


TITLES = {
    ("client", "socks"): "clients by SOCKS5",
    ("client", "shim"): "clients under libsocks6.so",
    ("client", "curl-length"): "curl under it, with Content-Length",
    ("client", "curl"): "curl under it, without",
    ("client", "direct"): "clients without a gateway",
    ("destination", "streams"): "the destination of all but curl",
    ("destination", "http"): "the destination of curl",
}


def judge(lines):
    rows = Rows()
    streams = {key: [] for key in TITLES}
    deaths = []
    for kind, what, since, until, *over in lines:
        if kind == "kill":
            deaths.append((what, float(since), float(until)))
        else:
            streams[kind, what].append((float(since), float(until), *over))

    def is_caused(over, killers):
        """Whether one of them has died in the course of it, or shortly before."""
        return any(killer in killers and since <= over[1] and over[0] <= until + AFTERWARDS_S
                   for killer, since, until in deaths)

    print(f"{'':36}{''.join(f'{end:>10}' for end in [*ENDS, 'uncaused'])}")
    for (kind, what), title in TITLES.items():
        ended = Counter(over[2] for over in streams[kind, what])
        # Who can end a stream, besides this end itself.
        killers = {"gateway", "destination", "client", "curl"} - {kind} - ({"gateway"} if what == "direct" else set())
        uncaused = [over for over in streams[kind, what] if over[2] in (RESET, REFUSED) and not is_caused(over, killers)]
        defects = [over for over in streams[kind, what] if over[2] in DEFECTS]
        if what == "http":  # curl is not careful: where it is killed before it has sent a request, that is an end, as directly
            defects = [over for over in defects if over[2] != TRUNCATED or not is_caused(over, {"client", "curl"})]
        wrong = defects + uncaused
        counts = "".join(f"{n:10}" for n in [*(ended[end] for end in ENDS), len(uncaused)])
        verdict = f"{wrong[0][2]}: {wrong[0][3]}" if wrong else "" if ended[WHOLE] else "nothing was whole"
        rows.row(f"{title:36}{counts}", verdict)
    rows.end()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["clients", way, path]:
            log = Log(path)
            until_over(lambda: client(way, log))
        case ["curls", library, path]:
            log = Log(path)
            until_over(lambda: curl(library, log))
        case [seconds, namespace, binaries, scratch]:
            run(int(seconds), namespace, binaries, scratch)
