"""Real applications inside a lab guest: a server in the root that lab/apps.py made, its client, and what the client saw.

A client is open-loop wherever it can be: a request is due when it is due, however slow the one before was. Its latency counts from
then, and one that is not answered within PATIENCE_S is lost. pgbench and sysbench do so by their own options for a rate; neither
redis-benchmark nor wrk has one, so those two servers have a client of ours.

The client is a process of its own, which says twice a second

    app DONE WANTED LATENCIES

with counts since it last read `start`; LATENCIES by the buckets of BUCKETS_S, joined by commas.
"""

import os
import random
import re
import select
import socket
import time

ROOT = "/apps"
USER = 1000
PATIENCE_S = 0.5
SAY_S = 0.5
READY_S = 120.0
RUN_S = 20
"""Of one run of sysbench, which says how late its requests were when it ends. A shorter one would begin often, and read itself in."""
QUIET_S = 45.0
"""A client that has said nothing for this long is asked for its rate all the same: its server hangs."""
BUCKETS_S = (
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 1e9),
)
SOCKETS = {
    "postgresql": ROOT + "/run/.s.PGSQL.5432",
    "mariadb": ROOT + "/run/mariadb.sock",
    "redis": ROOT + "/run/redis.sock",
    "nginx": ROOT + "/run/nginx.sock",
}
CHUNK_BYTES = 1 << 20
_LATE = re.compile(r"^\s*([0-9.]+) \|\**\s+([0-9]+)$", re.M)
_QUEUE = re.compile(r"queue length: ([0-9]+)")


class Counts:
    """What a client saw."""

    def __init__(self, rate):
        self.rate = rate
        self.begin()

    def begin(self):
        self.done = self.wanted = 0
        self.latencies = [0] * len(BUCKETS_S)
        self.heard = time.monotonic()

    def add(self, late_s, count=1):
        """This number of requests was answered after this time."""
        self.wanted += count
        self.heard = time.monotonic()
        self.latencies[next(i for i, limit in enumerate(BUCKETS_S) if late_s <= limit)] += count
        if late_s <= PATIENCE_S:
            self.done += count

    def line(self):
        lost = int(self.rate * max(0.0, time.monotonic() - self.heard - QUIET_S))
        words = ("app", self.done, self.wanted + lost, ",".join(map(str, self.latencies)))
        return " ".join(map(str, words)) + "\n"


class Voice:
    """Between the client and the workload: file descriptors 0 and 1."""

    def __init__(self, counts):
        self.counts = counts
        self.due = 0.0

    def speak(self):
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + SAY_S
        if select.select([0], [], [], 0)[0]:
            if not os.read(0, 4096):
                os._exit(0)  # the workload is gone
            self.counts.begin()
        os.write(1, self.counts.line().encode())


def mount():
    """The disk and all that programs expect below it."""
    for name in os.listdir("/sys/block"):
        try:
            with open("/sys/block/%s/serial" % name) as file:
                if file.read().strip() == "apps":
                    break
        except OSError:
            pass
    else:
        raise OSError("no disk of applications")
    os.system(
        "mkdir -p {0} /dev/shm && mount -t ext4 -o noatime /dev/{1} {0} && mount -t proc proc {0}/proc"
        " && mount -t devtmpfs devtmpfs {0}/dev && mount -t tmpfs -o mode=1777 tmpfs {0}/run"
        " && mount -t tmpfs -o mode=1777 tmpfs {0}/dev/shm".format(ROOT, name)
    )


def spawn(words, out=None, user=USER):
    """Starts a program in the root. Gives its process."""
    pid = os.fork()
    if pid:
        return pid
    console = os.open("/dev/console", os.O_WRONLY)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(out if out is not None else console, 1)
    os.dup2(console, 2)
    os.chroot(ROOT)
    os.chdir("/")
    os.setgid(user)
    os.setuid(user)
    try:
        os.execve(words[0], words, {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"})
    finally:
        os._exit(127)


def begin(name):
    """Mounts, starts the server, waits until it answers, and reads its data in."""
    mount()
    server = spawn(["/bin/sh", "/srv/%s.start" % name])
    end = time.monotonic() + READY_S
    while not answers(name):
        if time.monotonic() > end or os.waitpid(server, os.WNOHANG)[0]:
            raise OSError("%s does not start" % name)
        time.sleep(0.2)
    if name == "redis":
        return  # it holds them in memory
    for folder, _, files in os.walk("%s/data/%s" % (ROOT, name)):
        for file in files:
            try:
                with open(os.path.join(folder, file), "rb", buffering=0) as one:
                    while one.read(CHUNK_BYTES):
                        pass
            except FileNotFoundError:
                pass  # the server has made it anew, or is done with it


def answers(name):
    """Whether the server is ready."""
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(1.0)
            one.connect(SOCKETS[name])
            if name == "redis":
                one.sendall(b"PING\r\n")
                return one.recv(64).startswith(b"+PONG")
            return True
    except OSError:
        return False


def client(name, rate):
    """The client, for ever."""
    counts = Counts(rate)
    {"postgresql": pgbench, "mariadb": sysbench, "redis": redis, "nginx": nginx}[name](rate, counts, Voice(counts))


# With clients that come with them


def pgbench(rate, counts, voice):
    while True:
        pid = spawn(["/bin/sh", "/srv/postgresql.client", "%g" % rate])
        path, log, rest = "%s/run/tx.%d" % (ROOT, pid), None, ""
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if log is None and os.path.exists(path):
                log = open(path)
            rest = take_transactions(rest + log.read(), counts) if log is not None else ""
            voice.speak()
            time.sleep(0.1)
        began = time.monotonic()
        time.sleep(1.0)
        counts.wanted += int(rate * (time.monotonic() - began))


def take_transactions(text, counts):
    """pgbench's log (-l): client, number, microseconds since it was due or "skipped", ... Gives the line that is not whole."""
    *lines, rest = text.split("\n")
    for line in lines:
        word = line.split()[2]
        if word == "skipped":  # by --latency-limit: it was too late to begin
            counts.wanted += 1
        else:
            counts.add(int(word) / 1e6)
    return rest


def sysbench(rate, counts, voice):
    while True:
        began = time.monotonic()
        out, into = os.pipe()
        pid = spawn(["/bin/sh", "/srv/mariadb.client", "%g" % rate, str(RUN_S)], into)
        os.close(into)
        text = b""
        while True:
            if select.select([out], [], [], SAY_S)[0]:
                data = os.read(out, 65536)
                if not data:
                    break
                text += data
            voice.speak()
        os.close(out)
        os.waitpid(pid, 0)
        if not take_run(text.decode("utf-8", "replace"), counts):
            time.sleep(1.0)
            counts.wanted += int(rate * (time.monotonic() - began))
            voice.speak()


def take_run(text, counts):
    """sysbench's report: a histogram of milliseconds since each request was due, and how many still wait. Whether there was one."""
    found = _LATE.findall(text)
    for milliseconds, count in found:
        counts.add(float(milliseconds) / 1000, int(count))
    waiting = _QUEUE.findall(text)
    counts.wanted += int(waiting[-1]) if waiting else 0
    return bool(found)


# With a client of ours


def redis(rate, counts, voice):
    number = random.randrange

    def ask(one):
        one.sendall(b"GET key:%d\r\n" % number(120000))
        read_all(one, b"$")

    paced(rate, counts, voice, "redis", ask)


def nginx(rate, counts, voice):
    number = random.randrange

    def ask(one):
        one.sendall(b"GET /%d HTTP/1.1\r\nHost: lab\r\n\r\n" % number(6400))
        read_all(one, b"Content-Length: ")

    paced(rate, counts, voice, "nginx", ask)


def read_all(one, before):
    """One answer: its head says after `before` how long it is."""
    data = one.recv(65536)
    ends = b"\r\n" if before == b"$" else b"\r\n\r\n"
    while ends not in data:
        data += more(one)
    head, _, body = data.partition(ends)
    if before not in head:
        raise OSError("no answer: %r" % head[:60])
    left = int(head.split(before, 1)[1].split(b"\r\n", 1)[0]) - len(body)
    if before == b"$":
        left += 2
    while left > 0:
        left -= len(more(one))


def more(one):
    data = one.recv(65536)
    if not data:
        raise OSError("it hung up")
    return data


def paced(rate, counts, voice, name, ask):
    """One request after the other, each when it is due."""
    due, monotonic, line = time.monotonic(), time.monotonic, Line(SOCKETS[name])
    try:
        while True:
            voice.speak()
            due += 1 / rate
            time.sleep(max(0.0, due - monotonic()))
            if monotonic() - due > PATIENCE_S:
                counts.wanted += 1
                continue
            try:
                ask(line.open())
                counts.add(monotonic() - due)
            except OSError:
                counts.wanted += 1
                line.close()
    finally:
        line.close()


class Line:
    """A connection, opened when it is needed."""

    def __init__(self, path):
        self.path, self.socket = path, None

    def open(self):
        if self.socket is None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(5.0)
            self.socket.connect(self.path)
        return self.socket

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None
