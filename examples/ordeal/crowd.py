#!/usr/bin/python3
"""As many relays at once as descriptors have room for: what each costs, and what becomes of those who come above that.

For scripts/ordeal, in whose namespace it runs: crowd.py RELAYS DESCRIPTORS NAMESPACE BINARIES SCRATCH. It starts itself as
`crowd.py destination`, which sends back what it receives on one port, and reads nothing on another.
"""

import os
import re
import resource
import select
import socket
import statistics
import sys
import threading
import time

from streams import (GATEWAY, GREETING, NAMES, End, Rows, ask, fill, method, now, pattern, receive, reply, request, start,
                     start_gateway)

ECHO, DEAF = 7, 9  # ports of the destination
HOST = "2001:db8::6"
TRIES = 300  # for the latency of a new relay
SPARE = 64  # descriptors that the gateway keeps back (descriptors.rs)
DEAF_RELAYS = 60
ABOVE = 33  # who come when there is no room
PATIENCE_S = 30
BULK_OCTETS = 8 << 20
BUSY_RELAYS = 8
KEPT_KIB = 4 << 10  # spare buffers, and what the heap keeps
MOST_KIB = 64  # of memory for a relay that waits: a generous bound


# --- the destination ----------------------------------------------------------------------------------------------


def destination():
    raise_limit()
    listener = socket.create_server((HOST, ECHO), family=socket.AF_INET6, backlog=4096)
    _deaf = socket.create_server((HOST, DEAF), family=socket.AF_INET6, backlog=4096)
    epoll, socks = select.epoll(), {}
    epoll.register(listener, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                sock.settimeout(PATIENCE_S)
                socks[sock.fileno()] = sock
                epoll.register(sock, select.EPOLLIN)
                continue
            try:
                piece = socks[fd].recv(1 << 16)
                socks[fd].sendall(piece)
            except OSError:
                piece = b""
            if not piece:
                socks.pop(fd).close()


def raise_limit():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# --- clients ------------------------------------------------------------------------------------------------------


def relay(port=ECHO):
    sock = socket.create_connection(GATEWAY, PATIENCE_S)
    ask(sock, NAMES[1], port)
    return sock


def has_moved(socks):
    """An octet on each of them at once, there and back: how many seconds until the last one is here."""
    since = now()
    for number, sock in enumerate(socks):
        sock.sendall(bytes([number % 251]))
    for number, sock in enumerate(socks):
        if receive(sock, 1) != bytes([number % 251]):
            raise SystemExit("another octet has come back")
    return now() - since


def new_relay():
    """How long from the connection to the first octet back."""
    since = now()
    with relay() as sock:
        has_moved([sock])
        return (now() - since) * 1000


def bulk(sock):
    """Several megabytes there and back, as they were."""
    octets = bytes(pattern(0, 1 << 20)) * (BULK_OCTETS >> 20)
    sending = threading.Thread(target=sock.sendall, args=(octets,))
    sending.start()
    got = receive(sock, BULK_OCTETS)
    sending.join()
    return got == octets


class Busy:
    """Relays that carry as much as they can. As long as nobody waits they have pipes."""

    def __init__(self, socks):
        self.is_over = threading.Event()
        self.wrong = 0
        self.threads = [threading.Thread(target=self.carry, args=(sock,), daemon=True) for sock in socks]
        for thread in self.threads:
            thread.start()

    def carry(self, sock):
        while not self.is_over.is_set():
            try:
                self.wrong += not bulk(sock)
            except (End, OSError) as error:
                print(f"a busy relay: {error!r}")
                self.wrong += 1
                return

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        return self.wrong


class Waiting:
    """A client that has said all that it has to say, and has no answer yet."""

    def __init__(self):
        self.sock = socket.create_connection(GATEWAY, PATIENCE_S)
        self.sock.sendall(GREETING + request(NAMES[1], ECHO))

    def has_answer(self, seconds):
        poll = select.poll()  # select(2) ends at 1,024 descriptors
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def served(self):
        """In the end."""
        method(self.sock)
        reply(self.sock)
        has_moved([self.sock])
        return self.sock


# --- what it costs ------------------------------------------------------------------------------------------------


def fields(path):
    with open(path) as text:
        return {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+)", text.read(), re.M)}


RSS = "the gateway's RSS, KiB"


def costs(pid):
    rollup, status, system = fields(f"/proc/{pid}/smaps_rollup"), fields(f"/proc/{pid}/status"), fields("/proc/meminfo")
    return {
        RSS: rollup["Rss"],
        "the gateway's PSS, KiB": rollup["Pss"],
        "its page tables, KiB": status["VmPTE"],
        "the machine's kernel stacks, KiB": system["KernelStack"],
        "the machine's slab (4 sockets each), KiB": system["Slab"],
        "its threads": status["Threads"],
    }


def main(relays, descriptors, namespace, binaries, scratch):
    rows = Rows()
    check_machine(relays)
    raise_limit()
    log = open(f"{scratch}/crowd.log", "ab")
    other = start(["/usr/bin/python3", "-B", os.path.abspath(__file__), "destination"], log)
    limit = (descriptors, descriptors)
    gateway = start_gateway(namespace, binaries, log, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    most = costs(gateway.pid)[RSS]
    live = up_to(relays, descriptors, gateway.pid, rows)
    most += (costs(gateway.pid)[RSS] - most) // 4 + KEPT_KIB
    try:
        at_the_limit(live, descriptors, gateway.pid, rows)
    except (End, OSError) as error:
        rows.row("at the limit", repr(error))
    other.kill()  # and with it the relays that have something left for one who does not read
    other.wait()
    time.sleep(6)  # spare threads end after two seconds, and then the last one gives memory back
    after = costs(gateway.pid)
    wrong = "threads are left" if after["its threads"] > 10 else "memory is left" if after[RSS] > most else ""
    rows.row(f"afterwards {after['its threads']} threads and {after[RSS]} KiB of memory", wrong)
    gateway.kill()
    gateway.wait()
    with open(log.name) as text:
        said = text.read()
    odd = re.search(".*(panicked|cutting off|no thread|REP|rep=).*", said)
    rows.row("what the gateway says of it: " + said.strip().partition("\n")[0][28:], odd[0] if odd else "")
    rows.end()


def up_to(relays, descriptors, pid, rows):
    alone = sorted(new_relay() for _ in range(TRIES))
    before = costs(pid)
    live = [relay() for _ in range(relays)]
    has_moved(live)
    time.sleep(3)  # buffers go back, and threads that have had nothing to do end
    with_all = costs(pid)
    among = sorted(new_relay() for _ in range(TRIES))

    print(f"{relays} relays under RLIMIT_NOFILE {descriptors}")
    print(f"{'':44}{'before':>10}{'with them':>12}{'each':>8}")
    for what, start_value in before.items():
        print(f"{what:44}{start_value:10}{with_all[what]:12}{(with_all[what] - start_value) / relays:8.2f}")
    print(f"{'':44}{'alone':>10}{'among them':>12}{'ratio':>8}")
    for what, pick in ("a new relay to its first octet back, ms", statistics.median), ("  the slowest of a hundred", late):
        print(f"{what:44}{pick(alone):10.3f}{pick(among):12.3f}{pick(among) / pick(alone):8.2f}")
    each = (with_all[RSS] - before[RSS]) / relays
    rows.row(f"memory of the gateway for each: {each:.1f} KiB", "" if each < MOST_KIB else f"more than {MOST_KIB} KiB")
    rows.row(f"an octet each way over all of them at once: {has_moved(live) * 1000:.0f} ms", "")
    return live


def at_the_limit(live, descriptors, pid, rows):
    no_pipes = pipes(pid)
    busy = Busy([live.pop() for _ in range(BUSY_RELAYS)])
    time.sleep(1)
    some = pipes(pid) - no_pipes
    rows.row(f"{BUSY_RELAYS} of them are busy, with {some // 2} pipes", "" if some else "none")

    # To the limit, some towards a destination that does not read: pipes go, and then there is no room.
    deaf = [relay(DEAF) for _ in range(DEAF_RELAYS)]
    waiting = [Waiting()]
    while waiting[-1].has_answer(2):
        live.append(waiting.pop().served())
        waiting.append(Waiting())
    waiting += [Waiting() for _ in range(ABOVE - 1)]
    room, there_is = len(live) + len(deaf) + BUSY_RELAYS, (descriptors - SPARE) // 2
    rows.row(f"room for {room}; {ABOVE} more wait", "" if room == there_is else f"there is room for {there_is}")
    for sock in deaf:
        fill(sock, 0.05)
    left = pipes(pid) - no_pipes
    rows.row(f"{left // 2} pipes while they wait", "they come before clients" if left else "")
    rows.row(f"an octet each way meanwhile: {has_moved(live) * 1000:.0f} ms", "")
    answered = sum(each.has_answer(0) for each in waiting)
    rows.row(f"{answered} of those who wait have an answer", "before their turn" if answered else "")
    since = now()
    for each in waiting:  # in this order
        live.pop(0).close()
        live.append(each.served())
    took = (now() - since) * 1000
    rows.row(f"{len(waiting)} of them are served, each when another one goes: {took:.0f} ms in all", "")
    rows.row(f"the busy ones went on all the time", "other octets" if busy.end() else "")
    rows.row(f"an octet each way over {len(live)} afterwards: {has_moved(live) * 1000:.0f} ms", "")
    for sock in live + deaf:
        sock.close()


def pipes(pid):
    """Ends of pipes that the gateway has open."""
    fds = f"/proc/{pid}/fd"
    return sum(is_pipe(f"{fds}/{fd}") for fd in os.listdir(fds))


def is_pipe(path):
    try:
        return os.readlink(path).startswith("pipe:")
    except FileNotFoundError:
        return False


def late(figures):
    return figures[int(len(figures) * 0.99)]


def check_machine(relays):
    """Whether there is room for a thread each."""
    for path, least in ("kernel/pid_max", relays), ("kernel/threads-max", relays), ("vm/max_map_count", 2 * relays):
        with open(f"/proc/sys/{path}") as text:
            if int(text.read()) < least + 2_000:
                raise SystemExit(f"/proc/sys/{path} is too low for {relays} relays")


if __name__ == "__main__":
    if sys.argv[1:] == ["destination"]:
        destination()
    else:
        main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
