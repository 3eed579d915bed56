#!/usr/bin/python3
"""Real programs under the shim, and beside it under proxychains-ng, through a gateway that takes its time (gateway.py).

For scripts/matrix, which runs it in the client's namespace: matrix.py {long,short} BINARIES SHIM [PROXYCHAINS]
Three transfers at once have to take as long as one: two seconds at the gateway add less than 2.5 to the same run without
them. What was fetched has the SHA-256 of what is served; between entry and return of a connect() that must not block,
strace sees no call that waits; and the heart of an event loop goes on beating.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gateway import PAYLOAD

KIND, BINARIES, SHIM, *PROXYCHAINS = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
GOOD = hashlib.sha256(PAYLOAD).hexdigest()
# Others may have much to do where the short run is a test; a connect() that blocks takes seconds.
GAP_MS, SLACK_S = (50, 0.5) if KIND == "long" else (500, 1.5)
PEER = "proxychains-ng"
WAITS = re.compile(r"(ppoll|poll|pselect6|select|epoll_wait|epoll_pwait2?|futex|nanosleep|clock_nanosleep|pause)\(")
# DESIGN §2: what a REP becomes.
ERRORS = ["ECONNABORTED", "EACCES", "ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "ETIMEDOUT", "EOPNOTSUPP", "ENETUNREACH"]


# --- the programs: for names, the words to run --------------------------------------------------------------------


def fetch(*words):
    return lambda names: [*words, *names]


def script(text):
    """A script of sh. The clients of a server under the shim are not under it themselves: they run by $plain."""
    return lambda names: ["sh", "-c", f"plain='env -u LD_PRELOAD'\n{text(names)}"]


def curl(names):
    transfers = sum((["-o", name, f"http://{name}/"] for name in names), [])
    return ["curl", "-sS", "-Z", "--parallel-immediate", "--parallel-max", str(len(names)), *transfers]


def aria2(names):
    listed = "".join(rf"http://{name}/\n out={name}\n" for name in names)
    return f"printf '{listed}' | aria2c -q -j{len(names)} -i -"


def lftp(names):
    return ["lftp", "-c", " ".join(f"get http://{name}/ -o {name} &" for name in names) + " wait all"]


def nginx(names):
    locations = "".join(f"location /{name} {{ proxy_pass http://{name}/; }}" for name in names)
    transfers = " ".join(f"-o {name} http://127.0.0.1:8080/{name}" for name in names)
    return f"""
        sed 's|LOCATIONS|{locations}|' {HERE}/nginx.conf >nginx.conf
        nginx -p . -c nginx.conf &
        until $plain curl -s -o at http://127.0.0.1:8080/; do sleep 0.05; done
        $plain curl -sS -Z --parallel-immediate {transfers}
        kill $!; wait"""


def redis(names):
    return f"""
        redis-server --port 6380 --bind 127.0.0.1 --save '' --logfile log --replicaof {names[0]} 6379 &
        $plain python3 {HERE}/replica.py 6380 {names[0]}
        kill $!; wait"""


def chromium(names):
    return ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom",
            "--unsafely-treat-insecure-origin-as-secure=http://page.test", "--user-data-dir=profile", "--virtual-time-budget=30000",
            f"http://page.test/page?{','.join(names)}"]


ASYNCIO = fetch("/usr/bin/python3", f"{HERE}/fetch.py")
NODE = fetch("node", f"{HERE}/fetch.mjs")
C = {
    "C, poll": fetch(f"{BINARIES}/fetch", "poll"),
    "C, select": fetch(f"{BINARIES}/fetch", "select"),
    **{f"C, epoll, {how}, set {when} connect()": fetch(f"{BINARIES}/fetch", f"{how}-{when}")
       for how in ("level", "edge", "oneshot") for when in ("after", "before")},
}
OTHERS = {
    "Node": NODE,
    "Java NIO": fetch("java", "-cp", BINARIES, "Fetch"),
    "tokio": fetch(f"{BINARIES}/tokio-fetch"),
    "Boost.Asio": fetch(f"{BINARIES}/asio"),
    "nginx, reverse proxy": script(nginx),
    "redis, replica": script(redis),
    "curl -Z": curl,
    "aria2": script(aria2),
    "lftp": lftp,
    "chromium, headless": chromium,
}
COUNTS = {"curl -Z": 50, "redis, replica": 1}
LOOPS = {"Python asyncio": ASYNCIO} if KIND == "short" else {"Python asyncio": ASYNCIO, "Node": NODE}
PROGRAMS = {"Python asyncio": ASYNCIO, **C, **(OTHERS if KIND == "long" else {})}


# --- one run ------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """What a program did."""

    seconds: float
    said: str
    fetched: dict  # name: SHA-256
    waits: list  # calls that wait between entry and return of a connect() that must not; None if nothing was traced
    connects: int

    def is_good(self, names):
        return all(self.fetched.get(name) == GOOD for name in names)

    def gap(self):
        found = re.search(r"longest gap (\d+) ms", self.said)
        return int(found[1]) if found else None


def run(words, preload, limit_s, traced):
    with tempfile.TemporaryDirectory() as folder:
        command = ["env", f"LD_PRELOAD={preload}", *words]
        if traced:
            command = ["strace", "-f", "-qq", "-o", "trace", "-e", "signal=none", "env",
                       f"LD_PRELOAD={BINARIES}/mark.so {preload}", *words]
        began = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, start_new_session=True)
        try:
            said, _ = child.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            said = "hung"
        seconds = time.monotonic() - began
        try:
            os.killpg(child.pid, signal.SIGKILL)  # what it left behind
        except ProcessLookupError:
            pass
        child.wait()
        waits, connects = read_trace(f"{folder}/trace") if traced else (None, 0)
        return Run(seconds, said, digests(folder, said), waits, connects)


def digests(folder, said):
    """Of the files that are named as hosts are; a browser says them itself."""
    found = dict(re.findall(r"^(?:<html>.*<body>)?(\S+\.test) ([0-9a-f]{64})", said, re.MULTILINE))
    for name in os.listdir(folder):
        if name.endswith(".test"):
            with open(f"{folder}/{name}", "rb") as file:
                found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def read_trace(path):
    """strace -f: a process id, then a call. Calls that mark.so makes say which are inside connect()."""
    inside, waits, connects = set(), [], 0
    with open(path, encoding="latin-1") as trace:
        for line in trace:
            process, _, call = line.partition(" ")
            call = call.lstrip()
            if call.startswith('write(-1, "connect(",'):
                inside.add(process)
                connects += 1
            elif call.startswith('write(-1, "connected",'):
                inside.discard(process)
            elif process in inside and (found := WAITS.match(call)):
                waits.append(found[1])
    return waits, connects


# --- the table ----------------------------------------------------------------------------------------------------

verdicts = []


def judge(is_right, said):
    verdicts.append(is_right)
    if not is_right:
        print(f"wrong: {said}", file=sys.stderr)
    return "" if is_right else " **wrong**"


def under_socks6(words, traced=False):
    return run(words, SHIM, 45, traced)


def under_proxychains(words, traced=False):
    # Three connects in turn take six; what takes longer mostly takes for ever.
    return run(words, PROXYCHAINS[0], 12, traced)


def slow(seconds, count):
    return [f"n{i}.slow{seconds}.test" for i in range(count)]


def beat(label, one, is_judged=True):
    """The longest gap between two beats, of those programs that have a heart."""
    gap = one.gap()
    if gap is None:
        return ""
    return f"{gap} ms" + (judge(gap < GAP_MS, f"{label}: {gap} ms\n{one.said}") if is_judged else "")


def content(one, names):
    right = sum(one.fetched.get(name) == GOOD for name in names)
    return "same" if right == len(names) else f"{right} of {len(names)}"


def calls(one):
    if not one.connects:
        return "none seen"
    text = ", ".join(f"{one.waits.count(name)} {name}" for name in sorted(set(one.waits)))
    return text or f"no wait in {one.connects}"


def row(label, words):
    count = COUNTS.get(label, 3)
    # A replica connects when its clock, of one beat a second, says so.
    slack = SLACK_S + (1 if words is OTHERS["redis, replica"] else 0)
    quick = under_socks6(words(slow(0, count)))
    names = slow(2, count)
    ours = under_socks6(words(names))
    added = ours.seconds - quick.seconds
    cells = [label, str(count), f"{added:.2f} s" + judge(added < 2 + slack, f"{label}: {added:.2f} s\n{ours.said}"),
             content(ours, names) + judge(ours.is_good(names), f"{label}: content\n{ours.said}"), beat(label, ours)]
    if KIND == "long":
        traced = under_socks6(words(names), traced=True)
        is_right = traced.connects > 0 and not traced.waits and traced.is_good(names)
        cells += [calls(traced) + judge(is_right, f"{label}: {calls(traced)}\n{traced.said}")]
        quick, theirs = under_proxychains(words(slow(0, count))), under_proxychains(words(names))
        traced = under_proxychains(words(names), traced=True)
        cells += [f"{theirs.seconds - quick.seconds:.2f} s" if theirs.is_good(names) else "–",
                  content(theirs, names), beat(label, theirs, False), calls(traced)]
    return cells


def heartbeat(label, words):
    """Fifty connects at once, of which one takes five seconds."""
    names = slow(1, 49) + slow(5, 1)
    cells = [label]
    ours = under_socks6(words(names))
    cells += [content(ours, names) + judge(ours.is_good(names), f"{label}: content\n{ours.said}"),
              beat(label, ours) or judge(False, f"{label}: no heart\n{ours.said}")]
    if KIND == "long":
        theirs = under_proxychains(words(names))
        cells += [content(theirs, names), beat(label, theirs, False) or theirs.said]
    return cells


def errors(label, words):
    names = [f"n.rep{code}.test" for code in range(1, 9)]
    def found(one):
        # The two are one number in Linux.
        said = one.said.replace("ENOTSUP\n", "EOPNOTSUPP\n")
        return dict(re.findall(r"^(\S+): (E\w+)$", said, re.MULTILINE))
    expected = dict(zip(names, ERRORS))
    ours = found(under_socks6(words(names)))
    cells = [label, f"{sum(ours.get(n) == expected[n] for n in names)} of 8" + judge(ours == expected, f"{label}: {ours}")]
    if KIND == "long":
        theirs = found(under_proxychains(words(names)))
        cells += [f"{sum(theirs.get(n) == expected[n] for n in names)} of 8"]
    return cells


def table(columns, one, programs):
    """In the short run all rows of a table at once: they mostly wait, and nobody else's time is taken beside theirs."""
    columns = [column for column in columns if KIND == "long" or not column.startswith((PEER, "in connect"))]
    print("\n|", " | ".join(columns), "|")
    print("|" + "---|" * len(columns))
    with ThreadPoolExecutor(1 if KIND == "long" else len(programs)) as pool:
        for cells in pool.map(lambda item: one(*item), programs.items()):
            print("|", " | ".join(cells), "|", flush=True)


table(["program", "transfers", "two seconds add", "SHA-256", "longest gap", "in connect()", *(f"{PEER}: {what}" for what in
       ("two seconds add", "SHA-256", "longest gap", "in connect()"))], row, PROGRAMS)
table(["50 connects, one of 5 s", "SHA-256", "longest gap", f"{PEER}: SHA-256", f"{PEER}: longest gap"], heartbeat, LOOPS)
table(["refused with REP 01 to 08", "the right errno", f"{PEER}: the right errno"], errors, {**LOOPS, **C})
print(f"\n{verdicts.count(True)} passed, {verdicts.count(False)} failed")
sys.exit(not all(verdicts))
