"""The workload inside a lab guest: holds memory, touches it at a pace, says how it went.

Driven by the host over a virtio-serial port, in lines of words:

    size BYTES RATE      hold BYTES of anonymous memory, moving there at RATE bytes a second
    cache BYTES          read BYTES of the disk, so that they lie in the page cache
    pace OPS             touch OPS random pages a second, in slots of SLOT_S
    files N BYTES READS SHAPE EACH MAPPED
                         read a set of files again and again: READS random blocks of EACH bytes a second of BYTES of the data
                         disk, by SHAPE (uniform, zipf, hot-SHARE), mapped or not (1, 0). All of it is read in once first.
    nofiles N            the set is read no more
    stream RATE          read RATE bytes a second of that disk that are read once; 0 = no more
    hoard BYTES          protect page cache from reclaim (memory.min), then read BYTES of it: memory that
                         the kernel calls available and that no balloon can get
    pin COUNT            make COUNT directories: memory of the kernel's own that does not move
    choke                a task that the kernel lets stand waiting for memory for as good as all of the time
    cold SHARE           touch that part of what is held a hundred times less
    seed N               seed of the random touches
    noswap               swap off
    agent [WORD]         start ballonet's agent next to the workload; `nojvm` = it leaves JVMs alone
    cost                 say on the console what the agent has used: CPU seconds and resident KiB
    qga                  start QEMU's guest agent
    java OPTIONS...      a JVM does the work from now on: what it lets go of stays in its heap
    app NAME RATE        start a real application (apps.py), read its data in, and have its client ask RATE times a second; the
                         counts and latencies below are those of the client from then on
    start                counters to zero

and answers twice a second:

    report TIME_S DONE WANTED SWAP_IN_PAGES OOM_KILLS HELD_BYTES MEMTOTAL_BYTES AVAILABLE_BYTES SWAP_USED_BYTES LATENCIES

and, after each slot in which it took more memory,

    grown AVAILABLE_BYTES

or, when an application does not come up, `failed` and why.

LATENCIES are counts of slots by how late they ended, in the buckets of BUCKETS_S, joined by commas; of an application, of requests
by how late they were answered, in the buckets of apps.py.

Work is open-loop, as requests are: what a slot cannot do within its time and the patience of PATIENCE_S is lost,
not done later. A guest that stands still loses work; it cannot hide that by running faster afterwards.
"""

import os
import random
import select
import sys
import time

PORT = "/dev/virtio-ports/org.ballonet.lab.0"
CHUNK_BYTES = 1 << 20
PAGES_PER_CHUNK = CHUNK_BYTES >> 12
SLOT_S = 0.1
PATIENCE_S = 0.4
REPORT_S = 0.5
BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 1e9)


STREAM_AT = 64 << 30
"""Where on the data disk what is read once begins."""
AHEAD_BYTES = 128 << 10


def data_disk():
    """The largest disk: the data disk is a sparse file of hundreds of GiB."""
    sizes = {}
    for name in os.listdir("/sys/block"):
        with open("/sys/block/%s/size" % name) as file:
            sizes[name] = int(file.read())
    return "/dev/" + max(sizes, key=sizes.get)


class Files:
    """A set that is read again and again."""

    def __init__(self, size, reads, shape, each, mapped):
        self.blocks, self.reads, self.each = size // each, reads, each
        self.hot = float(shape[4:]) if shape.startswith("hot-") else 0.0
        self.is_zipf = shape == "zipf"
        self.fd = os.open(data_disk(), os.O_RDONLY)
        for at in range(0, size, CHUNK_BYTES):
            os.pread(self.fd, min(CHUNK_BYTES, size - at), at)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)
        self.map = None
        if mapped:
            import mmap

            self.map = mmap.mmap(self.fd, size, prot=mmap.PROT_READ)
        self.owed = 0.0

    def block(self):
        """Where the next read is."""
        draw = random.random
        if self.is_zipf:
            # As popular as one by its rank: nearly that power of the number of blocks; then scattered.
            return (int(self.blocks ** draw()) * 2654435761) % self.blocks
        if self.hot and draw() < 0.9:
            return int(draw() * self.hot * self.blocks)
        return int(draw() * self.blocks)

    def read(self, count, deadline):
        """Reads `count` blocks, or as many as fit before `deadline`. Gives how many."""
        fd, each, monotonic, pread, block = self.fd, self.each, time.monotonic, os.pread, self.block
        for done in range(count):
            at = block() * each
            if self.map is not None:
                self.map[at]
            else:
                pread(fd, each, at)
            if not done & 3 and monotonic() > deadline:
                return done + 1
        return count


def mount_software():
    os.system("mkdir -p /software && mount -t ext4 -o ro /dev/vdb /software")


def find_port(name="org.ballonet.lab.0"):
    """The port's device by its name in sysfs: no udev here to make links."""
    while True:
        for entry in os.listdir("/sys/class/virtio-ports"):
            try:
                with open("/sys/class/virtio-ports/%s/name" % entry) as file:
                    if file.read().strip() == name:
                        return "/dev/" + entry
            except OSError:
                pass
        time.sleep(0.05)


def counters(path, *names):
    """The named values of a /proc file of lines `name value`. Searched, not parsed: interpreted line by line under an
    emulated CPU, two of these files a second would cost a guest a tenth of its time."""
    with open(path) as file:
        text = "\n" + file.read()
    found = []
    for name in names:
        start = text.find("\n" + name) + 1 + len(name)
        found.append(int(text[start : text.find("\n", start)].split()[0]))
    return found


class Workload:
    def __init__(self, port):
        self.port = port
        self.buffer = b""
        self.chunks = []
        self.size_bytes = 0
        self.size_now = 0.0
        self.rate = 1e12
        self.pace = 0
        self.hot_share = 1.0
        self.to_worker = self.from_worker = None
        self.worker_hears = ()
        self.worker_said = b""
        self.worker = [0, 0, [0] * len(BUCKETS_S)]
        self.is_app = False
        self.files = {}
        self.streamer = 0
        self.start()

    def start(self):
        self.done = self.wanted = 0
        self.latencies = [0] * len(BUCKETS_S)
        self.swap_in0, self.oom0 = counters("/proc/vmstat", "pswpin ", "oom_kill ")
        self.time0 = time.monotonic()

    # Commands

    def read_commands(self, wait_s):
        if not select.select([self.port], [], [], wait_s)[0]:
            return
        try:
            data = os.read(self.port, 4096)
        except OSError:
            data = b""
        if not data:  # nobody at the other end
            time.sleep(min(wait_s, 0.02))
            return
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            words = line.decode().split()
            if words and words[0] in self.worker_hears:
                os.write(self.to_worker, line + b"\n")
                if words[0] != "start":
                    continue
            if words:
                getattr(self, "do_" + words[0])(*words[1:])

    def do_size(self, size, rate):
        self.size_bytes, self.rate = int(size), float(rate)

    def do_cache(self, size):
        self.disk = open("/dev/vda", "rb", buffering=0)  # a disk that nobody has open keeps no page cache
        left = int(size)
        while left > 0:
            left -= max(1, len(self.disk.read(CHUNK_BYTES)))

    def do_files(self, number, size, reads, shape, each, mapped):
        self.files[number] = Files(int(size), float(reads), shape, int(each), mapped == "1")

    def do_nofiles(self, number):
        one = self.files.pop(number, None)
        if one is not None:
            if one.map is not None:
                one.map.close()
            os.close(one.fd)

    def do_stream(self, rate):
        if self.streamer:
            os.kill(self.streamer, 9)
            os.waitpid(self.streamer, 0)
            self.streamer = 0
        rate = int(rate)
        if not rate:
            return
        self.streamer = os.fork()
        if self.streamer == 0:
            fd, at, due = os.open(data_disk(), os.O_RDONLY), STREAM_AT, time.monotonic()
            while True:
                os.pread(fd, AHEAD_BYTES, at)
                at += AHEAD_BYTES
                due += AHEAD_BYTES / rate
                time.sleep(max(0.0, due - time.monotonic()))

    def do_hoard(self, size):
        # Real-time tasks may use the last quarter of the kernel's emergency memory and a balloon may not: so the guest
        # lives on, at the brink, when its balloon has taken all that there was.
        for path, value in (("/proc/sys/vm/min_free_kbytes", "16384"), ("/sys/fs/cgroup/hoard/memory.min", "max")):
            with open(path, "w") as file:
                file.write(value)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        if os.fork() == 0:  # the child's cgroup is charged with the cache, and stays as its keeper
            with open("/sys/fs/cgroup/hoard/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            self.do_cache(size)
            while True:
                time.sleep(3600)

    def do_pin(self, count):
        for number in range(int(count)):
            os.makedirs("/tmp/pin/%d" % number)

    def do_choke(self):
        # Over its cgroup's memory.high, without swap: the kernel makes it wait for up to 2 s at each step, and counts that
        # as a stall for memory (mm/memcontrol.c, mem_cgroup_handle_over_high).
        os.mkdir("/sys/fs/cgroup/choke")
        for name, value in (("high", "4M"), ("swap.max", "0")):
            with open("/sys/fs/cgroup/choke/memory." + name, "w") as file:
                file.write(value)
        if os.fork() == 0:
            with open("/sys/fs/cgroup/choke/cgroup.procs", "w") as file:
                file.write(str(os.getpid()))
            held = []
            while True:
                held.append(bytearray(CHUNK_BYTES))

    def do_cold(self, share):
        self.hot_share = 1.0 - float(share)

    def do_pace(self, ops):
        self.pace = int(ops)

    def do_seed(self, seed):
        random.seed(int(seed))

    def do_noswap(self):
        os.system("swapoff -a")

    def do_agent(self, *words):
        with open("/agent.conf", "w") as file:
            file.write("jvm_idle_s = 3\njvm_every_s = 15\njvm_least_bytes = 16777216\n")
            file.write("jvm = off\n" if "nojvm" in words else "")
        os.system("/usr/bin/python3 -S -E /ballonet-agent --config /agent.conf > /dev/console 2>&1 &")

    def do_cost(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with open("/proc/%s/cmdline" % pid) as file:
                words = file.read()
            if "/ballonet-agent\0" in words and words.startswith("/usr/bin/python"):
                with open("/proc/%s/stat" % pid) as file:
                    ticks = file.read().rpartition(")")[2].split()[11:13]
                kib = counters("/proc/%s/status" % pid, "VmRSS:")[0]
                print("lab: agent cpu %.2f rss %d" % (sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), kib), flush=True)

    def do_qga(self):
        mount_software()
        port = find_port("org.qemu.guest_agent.0")
        os.system("LD_LIBRARY_PATH=/software/lib /software/qemu-ga -m virtio-serial -p %s -t /run > /dev/console 2>&1 &" % port)

    def do_java(self, *options):
        mount_software()
        java = "/software/jre/bin/java"
        words, environment = [java, *options, "-cp", "/software/classes", "Work"], {"LD_LIBRARY_PATH": "/software/lib"}
        self.hire(lambda: os.execve(java, words, environment), ("size", "pace", "start"))
        os.write(self.to_worker, b"pace %d\nsize %d %f\n" % (self.pace, self.size_bytes, self.rate))
        self.size_bytes = self.pace = 0

    def do_app(self, name, rate):
        import apps

        try:
            apps.begin(name)
        except OSError as error:
            self.say("failed", error)
            return
        self.worker[2] = [0] * len(apps.BUCKETS_S)
        self.is_app = True
        self.hire(lambda: apps.client(name, float(rate)), ("start",))

    def hire(self, work, hears):
        """Has another process do the work and say how it goes; it is told the commands that it `hears`."""
        to_worker, self.to_worker = os.pipe()
        self.from_worker, from_worker = os.pipe()
        os.set_blocking(self.from_worker, False)
        if os.fork() == 0:
            os.dup2(to_worker, 0)
            os.dup2(from_worker, 1)
            os.close(self.to_worker)
            os.close(self.from_worker)
            os.close(self.port)
            try:
                work()
            finally:
                print("lab: whoever did the work has ended", file=sys.stderr, flush=True)
                os._exit(1)
        os.close(to_worker)
        os.close(from_worker)
        self.worker_hears = hears

    def do_start(self):
        self.start()

    # Work

    def resize(self, dt):
        """One step towards the wished size. The first touch of a page is here: a bytearray is zeroed."""
        step = self.rate * dt
        self.size_now += max(-step, min(step, self.size_bytes - self.size_now))
        chunks = int(self.size_now) // CHUNK_BYTES
        while len(self.chunks) > chunks:
            self.chunks.pop()
        if len(self.chunks) < chunks:
            self.chunks.append(bytearray(CHUNK_BYTES))
        return len(self.chunks) == chunks

    def work(self, ops, deadline):
        """Touch `ops` random pages or as many as fit before `deadline`. Gives how many."""
        chunks, draw, monotonic = self.chunks, random.random, time.monotonic
        pages = len(chunks) * PAGES_PER_CHUNK
        if not pages:
            return ops
        hot = max(1, int(pages * self.hot_share))
        for op in range(ops):
            # int(draw()) is a third of the cost of randrange, which ten guests on two cores feel
            page = int(draw() * hot) if op % 100 else int(draw() * pages)
            chunks[page >> 8][(page & 255) << 12] ^= 1
            if not op & 7 and monotonic() > deadline:
                return op + 1
        return ops

    def run(self):
        slot_start = time.monotonic()
        report_at = slot_start + REPORT_S
        while True:
            slot_end = slot_start + SLOT_S
            self.read_commands(0)
            deadline = slot_end + PATIENCE_S
            ops = int(self.pace * SLOT_S)
            held = len(self.chunks)
            settled = self.resize(SLOT_S)
            while not settled and time.monotonic() < deadline:
                settled = self.resize(0)
            if len(self.chunks) > held:
                self.say("grown", counters("/proc/meminfo", "MemAvailable:")[0] * 1024)
            done = self.work(ops, deadline) if time.monotonic() < deadline else 0
            for one in self.files.values():
                one.owed += one.reads * SLOT_S
                count = int(one.owed)
                one.owed -= count
                ops += count
                done += one.read(count, deadline) if time.monotonic() < deadline else 0
            now = time.monotonic()
            self.wanted += ops
            self.done += done
            late_s = now - slot_start
            self.latencies[next(i for i, limit in enumerate(BUCKETS_S) if late_s <= limit)] += 1
            missed = max(0, int((now - slot_end - PATIENCE_S) / SLOT_S))  # whole slots that passed while this one stood
            self.wanted += missed * ops
            slot_start = slot_end + missed * SLOT_S
            if now >= report_at:
                self.report(now)
                report_at = max(report_at + REPORT_S, now)
            while (left_s := slot_start - time.monotonic()) > 0:
                self.read_commands(left_s)

    def hear_worker(self):
        """The newest of what it said."""
        try:
            self.worker_said += os.read(self.from_worker, 65536) if self.from_worker is not None else b""
        except OSError:
            return
        *lines, self.worker_said = self.worker_said.split(b"\n")
        for words in (line.split() for line in lines):
            if len(words) == 4 and words[0] in (b"java", b"app"):
                self.worker = [int(words[1]), int(words[2]), [int(count) for count in words[3].split(b",")]]

    def report(self, now):
        swap_in, ooms = counters("/proc/vmstat", "pswpin ", "oom_kill ")
        total, available, swap_total, swap_free = (
            kib * 1024 for kib in counters("/proc/meminfo", "MemTotal:", "MemAvailable:", "SwapTotal:", "SwapFree:")
        )
        self.hear_worker()
        self.say(
            "report",
            round(now - self.time0, 3),
            self.worker[0] + (0 if self.is_app else self.done),
            self.worker[1] + (0 if self.is_app else self.wanted),
            swap_in - self.swap_in0,
            ooms - self.oom0,
            len(self.chunks) * CHUNK_BYTES,
            total,
            available,
            swap_total - swap_free,
            ",".join(map(str, self.worker[2] if self.from_worker is not None else self.latencies)),
        )

    def say(self, *words):
        line = (" ".join(map(str, words)) + "\n").encode()
        if select.select([], [self.port], [], 0)[1]:
            os.write(self.port, line)


if __name__ == "__main__":
    Workload(os.open(find_port(), os.O_RDWR)).run()
