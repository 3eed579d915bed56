#!/usr/bin/python3
"""Reloads and upgrades under load: no connection is refused, no relay is cut, and every octet is right.

For scripts/ordeal, in whose namespace it runs: changes.py COUNT NAMESPACE BINARIES SCRATCH. Each time the configuration is
another one, and now and then a broken one, with which neither a reload nor an upgrade changes anything.
"""

import os
import random
import re
import signal
import socket
import sys
import threading
import time

from destination import STREAMS
from streams import (GATEWAY, NAMES, REFUSED, WHOLE, End, Log, Order, Rows, ask, careful, carry, now, start_destination,
                     start_gateway)

NEW_CLIENTS, LONG_RELAYS, QUIET_RELAYS = 6, 4, 2
LONG_OCTETS, QUIET_OCTETS = 256 << 20, 4 << 20  # more than go in all the time, at their pace
PATIENCE_S = 30
BESIDE = [1081, 1082, 1083]  # ports of listeners that come and go

COMMON = """
listen = [{listen}]
allow-clients = ["192.0.2.0/24"]
[log]
level = "{level}"
"""
BROKEN = [
    "listen = [",
    'listen = ["192.0.2.1:1080"]\nlisten-on = 1',
    'listen = ["192.0.2.1:1080"]\n[limits]\nidle = "soon"',
    f'listen = ["192.0.2.1:1080", "192.0.2.4:{STREAMS}"]\nallow-clients = ["192.0.2.0/24"]',  # somebody else is there
]
EXTRAS = [
    "",
    '[limits]\nrelays-per-client = 5000\nfailed-logins = 3\nupgrade = "1h"',
    '[[rule]]\nname = "all"\naction = "allow"\nnames = ["*"]',
    '[groups]\nstaff = ["alice"]\n[[rule]]\naction = "deny"\nports = ["1"]\n[[rule]]\naction = "allow"',
    '[metrics]\nlisten = "127.0.0.1:9180"',
]


def stream(order, port=GATEWAY[1], pace=None):
    """How it ends through the gateway, and how long the reply took."""
    since = now()
    sock = socket.socket()
    careful(sock)
    sock.settimeout(PATIENCE_S)
    took = None
    try:
        sock.connect((GATEWAY[0], port))
        ask(sock, random.choice(NAMES), STREAMS)
        took = now() - since
        sock.sendall(order.packed())
        if pace is None:
            order.at_client(sock)
        carry(sock, (order.start, order.up), (order.start + 1, order.down), pace)
    except End as end:
        over = end
    except ConnectionRefusedError as error:
        over = End(REFUSED, str(error))
    except OSError as error:
        over = End.of(error)
    sock.close()
    return over, took


class Load:
    """Clients that come and go all the time, and relays that last from before the first change to after the last."""

    def __init__(self):
        self.is_over = threading.Event()
        self.new, self.long, self.longest = [], [], 0.0
        self.threads = [threading.Thread(target=self.come_and_go) for _ in range(NEW_CLIENTS)]
        for _ in range(LONG_RELAYS):
            self.threads.append(threading.Thread(target=self.last, args=(0.01, LONG_OCTETS, LONG_OCTETS)))
        for _ in range(QUIET_RELAYS):
            self.threads.append(threading.Thread(target=self.last, args=(0.5, QUIET_OCTETS, 0)))
        for thread in self.threads:
            thread.daemon = True
            thread.start()

    def come_and_go(self):
        while not self.is_over.is_set():
            order = Order(random.choice([0, 1, 1000, 300_000]), random.choice([0, 1, 1000, 300_000]), random.randrange(1 << 32))
            over, took = stream(order)
            self.new.append(over)
            self.longest = max(self.longest, took or 0)

    def last(self, seconds, up, down):
        order = Order(up, down, random.randrange(1 << 32))
        over, _ = stream(order, pace=lambda: 0 if self.is_over.is_set() else seconds)
        self.long.append(over if self.is_over.is_set() else End("too early", str(over)))

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


class Line:
    """The gateway and its successors."""

    def __init__(self, namespace, binaries, scratch):
        self.config, self.path = f"{scratch}/gateway.toml", f"{scratch}/gateway.log"
        self.write("")
        self.first = start_gateway(namespace, binaries, open(self.path, "ab"), "--config", self.config)
        self.pids = [self.first.pid]

    def write(self, extra, beside=()):
        listen = ", ".join(f'"192.0.2.1:{port}"' for port in [GATEWAY[1], *beside])
        self.write_all(COMMON.format(listen=listen, level="info") + extra + "\n")

    def write_all(self, text):
        with open(f"{self.config}.new", "w") as file:
            file.write(text)
        os.rename(f"{self.config}.new", self.config)

    def tell(self, number, answer):
        """Sends a signal to the one that serves, and waits for what is said to it in the log."""
        seen = os.path.getsize(self.path)
        os.kill(self.pids[-1], number)
        until = now() + PATIENCE_S
        while now() < until:
            with open(self.path, "rb") as log:
                log.seek(seen)
                found = re.search(answer, log.read())
            if found:
                return found
            time.sleep(0.005)
        raise SystemExit(f"nothing like {answer} in the log after {PATIENCE_S} seconds: {self.path}")

    def reload(self, answer=rb" INFO [^\n]*reloaded"):
        self.tell(signal.SIGHUP, answer)

    def upgrade(self):
        self.pids.append(int(self.tell(signal.SIGUSR2, rb"upgraded successor=(\d+)\n")[1]))

    def changes_nothing(self):
        self.reload(rb"not reloaded, and nothing has changed")
        self.tell(signal.SIGUSR2, rb"not upgraded, and nothing has changed")


def is_gone(pid):
    """A zombie is: its parent may have ended before, and it is up to process 1 when it is collected."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return ") Z " in stat.read()
    except FileNotFoundError:
        return True


def main(count, namespace, binaries, scratch):
    rows = Rows()
    streams = f"{scratch}/changes-streams.log"
    Log(streams)
    destination = start_destination(streams, open(f"{scratch}/changes-destination.log", "ab"))
    line = Line(namespace, binaries, scratch)
    load = Load()
    since, broken, beside = now(), 0, [End(WHOLE)]
    for number in range(count):
        time.sleep(random.uniform(0, 0.5))
        ports = random.sample(BESIDE, number % (len(BESIDE) + 1))
        line.write(EXTRAS[number % len(EXTRAS)], ports)
        line.reload()
        line.upgrade()
        if number % 4 == 0:
            line.write_all(BROKEN[number // 4 % len(BROKEN)])
            line.changes_nothing()
            broken += 1
        for port in BESIDE:
            over, _ = stream(Order(1000, 1000, number), port)
            if over.how != (WHOLE if port in ports else REFUSED):
                beside.append(over)
    took = now() - since
    load.end()

    print(f"{count} reloads and {count} upgrades in {took:.0f} s, and {broken} of each with a broken configuration")
    rows.row(f"{len(load.new):8} streams of new clients, the longest wait for a reply {load.longest * 1000:.0f} ms", bad(load.new))
    rows.row(f"{len(load.long):8} relays from before the first change to after the last", bad(load.long))
    rows.row(f"{count * len(BESIDE):8} looks at listeners that come and go beside it", bad(beside))
    line.write("")
    line.reload()
    *others, last = line.pids
    until = now() + PATIENCE_S
    while now() < until and not all(map(is_gone, others)):
        time.sleep(0.05)
    rows.row(f"{len(others):8} predecessors have ended", "not all of them" if not all(map(is_gone, others)) else "")
    os.kill(last, signal.SIGTERM)
    destination.terminate()
    destination.wait()
    with open(streams) as lines:
        ends = [End(*text.rstrip("\n").split("\t")[4:6]) for text in lines]
    rows.row(f"{len(ends):8} streams at the destination", bad(ends))
    with open(line.path) as log:
        odd = [text for text in log if re.search("panicked|cutting off|out of|no thread", text)]
    rows.row(f"{len(odd):8} odd lines in the log", odd[0] if odd else "")
    rows.end()


def bad(ends):
    """The first that was not whole."""
    return next((f"{end.how}: {end.why}" for end in ends if end.how != WHOLE), "" if ends else "none")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
