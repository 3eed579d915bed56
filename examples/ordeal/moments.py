#!/usr/bin/python3
"""What one end sees of the other's kill -9, moment by moment: through the gateway as directly. And of the gateway's: a reset.

For scripts/ordeal, in whose namespace it runs: moments.py NAMESPACE BINARIES SCRATCH. A row for each moment and whose death it is;
*plain* ends are as most programs are, so that the kernel says goodbye for them as it likes; *careful* ones in streams.py.
"""

import errno
import os
import signal
import socket
import sys
import time

from streams import GATEWAY, GREETING, Rows, ask, careful, fill, receive, request, start_gateway

HERE = "192.0.2.4"
PATIENCE_S = 5
LENGTH = 100_000

# What happens before: each step is whose, and what he does.
MOMENTS = {
    "nothing is sent": [],
    "all is read": [("dying", "send"), ("other", "read"), ("other", "send"), ("dying", "read")],
    "the dying one has not read all": [("other", "send")],
    "the other one has not read all": [("dying", "send")],
    "full towards the dying one": [("other", "fill")],
    "full towards the other one": [("dying", "fill")],
    "full both ways": [("other", "fill"), ("dying", "fill")],
    "the dying one has half-closed": [("dying", "send"), ("dying", "shut"), ("other", "read all")],
    "the other one has half-closed": [("other", "send"), ("other", "shut"), ("dying", "read all"), ("dying", "send")],
}


def do(sock, step):
    sock.settimeout(PATIENCE_S)
    match step:
        case "send":
            sock.sendall(bytes(LENGTH))
        case "read":
            receive(sock, LENGTH)
        case "read all":
            while sock.recv(1 << 16):
                pass
        case "shut":
            sock.shutdown(socket.SHUT_WR)
        case "fill":
            fill(sock, 0.3)


def seen(sock):
    """What reading comes to, and writing afterwards."""
    sock.settimeout(PATIENCE_S)
    try:
        while sock.recv(1 << 20):
            pass
        read = "an end"
    except OSError as error:
        read = name(error)
    wrote = "is taken"
    until = time.monotonic() + 1
    sock.settimeout(0.1)
    while wrote == "is taken" and time.monotonic() < until:
        try:
            sock.send(b"?")
            time.sleep(0.01)
        except TimeoutError:
            time.sleep(0.01)
        except OSError as error:
            wrote = name(error)
    return f"{read}, {wrote}"


def name(error):
    return "silence" if isinstance(error, TimeoutError) else errno.errorcode[error.errno]


def connected(port, is_relayed, is_careful):
    sock = socket.socket()
    careful(sock, is_careful)
    sock.settimeout(PATIENCE_S)
    if is_relayed:
        sock.connect(GATEWAY)
        ask(sock, "four.example", port)
    else:
        sock.connect((HERE, port))
    return sock


class Dying:
    """One end in a process of its own, which does as it is told, until it is killed."""

    def __init__(self, make):
        self.orders, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.orders.close()
            sock = make()
            while True:
                theirs.send(b".")
                do(sock, theirs.recv(64).decode())
        theirs.close()

    def wait(self):
        receive(self.orders, 1)

    def do(self, step):
        self.orders.send(step.encode())
        self.wait()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.orders.close()


def death_of_an_end(who, steps, is_relayed, is_careful):
    """Who is `client` or `destination`; what the other one sees."""
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]
        if who == "client":
            dying = Dying(lambda: connected(port, is_relayed, is_careful))
            sock, _ = listener.accept()
        else:
            def accepted():
                sock, _ = listener.accept()
                careful(sock, is_careful)
                listener.close()
                return sock

            dying = Dying(accepted)
            sock = connected(port, is_relayed, False)
        dying.wait()
    for whose, step in steps:
        dying.do(step) if whose == "dying" else do(sock, step)
    time.sleep(0.05)  # what is on its way arrives
    dying.kill()
    result = seen(sock)
    sock.close()
    return result


def kill(gateway):
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()


def death_of_the_gateway(start, steps):
    """What client and destination see; of the two in the steps the client is `dying`."""
    with socket.create_server((HERE, 0)) as listener:
        gateway = start()
        client = connected(listener.getsockname()[1], True, False)
        destination, _ = listener.accept()
    ends = {"dying": client, "other": destination}
    for whose, step in steps:
        do(ends[whose], step)
    time.sleep(0.05)
    kill(gateway)
    result = [seen(client), seen(destination)]
    client.close()
    destination.close()
    return result


def in_the_handshake(start):
    """What a client sees of the gateway's death before its reply: for each moment, with what it has said by then."""

    def sees(said, is_stopped=False):
        gateway = start()
        if is_stopped:
            gateway.send_signal(signal.SIGSTOP)  # nobody accepts
        client = socket.create_connection(GATEWAY, PATIENCE_S)
        client.sendall(said)
        time.sleep(0.1)
        kill(gateway)
        result = seen(client)
        client.close()
        return result

    yield "in the queue of the listener", sees(GREETING, is_stopped=True)
    yield "before the greeting", sees(b"")
    yield "in the middle of the request", sees(GREETING + request("four.example", 7)[:7])


def in_the_dial(start, is_answered):
    """What client and destination see of the gateway's death while it dials, or before it has heard of the answer."""
    gateway = start()
    with socket.create_server((HERE, 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        filler = socket.create_connection((HERE, port), PATIENCE_S)
        client = socket.create_connection(GATEWAY, PATIENCE_S)
        client.sendall(GREETING + request("four.example", port))
        time.sleep(0.3)  # its SYN finds the queue full; another one follows a second after it
        result = "-"
        if is_answered:
            gateway.send_signal(signal.SIGSTOP)
            listener.accept()[0].close()
            listener.settimeout(PATIENCE_S)
            destination, _ = listener.accept()
            kill(gateway)
            result = seen(destination)
            destination.close()
        kill(gateway)
    result = seen(client), result
    client.close()
    filler.close()
    return result


GONE = "ECONNRESET, EPIPE"  # a reset, and from then on nothing can be sent
GONE_LATE = "an end, EPIPE"  # the same for who has read an end already: recv(2) goes on to say so


def gone(who, steps):
    return GONE_LATE if (who, "read all") in steps else GONE


def main(namespace, binaries, scratch):
    rows = Rows()
    log = open(f"{scratch}/moments.log", "ab")

    def start():
        return start_gateway(namespace, binaries, log)

    print(f"{'a death':64}{'directly':24}through the gateway")
    gateway = start()
    for who in "destination", "client":
        for is_careful in False, True:
            kind = f"{'careful' if is_careful else 'plain'} {who}"
            for moment, steps in MOMENTS.items():
                direct, relayed = (death_of_an_end(who, steps, is_relayed, is_careful) for is_relayed in (False, True))
                wrong = "not the same" if direct != relayed else ""
                if is_careful and relayed != gone("other", steps):
                    wrong = "no reset"
                rows.row(f"{kind + ': ' + moment:64}{direct:24}{relayed}", wrong)
    kill(gateway)

    print(f"\n{'the death of the gateway':64}{'at the client':24}at the destination")
    for moment, steps in MOMENTS.items():
        moment = moment.replace("the dying one", "the client").replace("the other one", "the destination")
        client, destination = death_of_the_gateway(start, steps)
        is_good = client == gone("dying", steps) and destination == gone("other", steps)
        rows.row(f"{moment:64}{client:24}{destination}", "" if is_good else "no reset")
    for moment, client in in_the_handshake(start):
        rows.row(f"{moment:64}{client:24}-", "" if client == GONE else "no reset")
    for moment, is_answered in ("while it dials", False), ("between the destination's connection and the reply", True):
        client, destination = in_the_dial(start, is_answered)
        is_good = client == GONE and destination == (GONE if is_answered else "-")
        rows.row(f"{moment:64}{client:24}{destination}", "" if is_good else "no reset")
    rows.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
