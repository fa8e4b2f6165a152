"""JVM care with real JVMs: OpenJDK's on this machine, where there is one."""

import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ballonet.guest.care import Care
from ballonet.guest.jvm import heap
from ballonet.guest.kernel import Memory
from ballonet.guest.ready import Ready
from ballonet.guest.settings import Settings

MIB = 1 << 20
LIVE_MIB, GARBAGE_MIB = 60, 240
COLLECTORS = {
    "G1": (0.9, ["-XX:+UseG1GC"]),
    "Serial": (0.9, ["-XX:+UseSerialGC", "-Xms32m"]),
    "Z": (0.9, ["-XX:+UseZGC", "-Xms32m", "-XX:ZUncommitDelay=1"]),
    "Parallel": (0.6, ["-XX:+UseParallelGC", "-Xms32m", "-XX:+UseAdaptiveSizePolicyWithSystemGC"]),
}
"""What part of the garbage each returns, and with what options: Parallel keeps its young generation, and gives 69 to 73 %."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("javac") is None:
        pytest.skip("no JDK; as root: apt-get install --no-install-recommends openjdk-17-jdk-headless")
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-d", folder, Path(__file__).parent / "Heap.java"], check=True)
    return folder


@pytest.fixture
def start(classes: Path) -> Iterator[Start]:
    """Starts a JVM with a heap of live data and garbage, and waits for it to be filled."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str, busy: bool = False) -> subprocess.Popen[str]:
        words = ["java", "-Xmx512m", *options, "-cp", str(classes), "Heap", str(LIVE_MIB), str(GARBAGE_MIB)]
        words += ["busy"] if busy else []
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        assert running[-1].stdout is not None
        assert running[-1].stdout.readline().strip() == "ready"
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def cared(settings: Settings, pid: int, folder: Path) -> tuple[Care, Callable[[float], None]]:
    """Care for one JVM alone, and what lets it work for some seconds."""
    poll = select.poll()
    (folder / str(pid)).symlink_to(f"/proc/{pid}")
    care = Care(settings, poll, str(folder))

    def work(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for fd, _ in poll.poll(20):
                care.hear(fd)
            care.step(time.monotonic())

    return care, work


def quick(**more: object) -> Settings:
    settings = Settings()
    settings.jvm_idle_s = 1.0
    vars(settings).update(more)
    return settings


@pytest.mark.parametrize("collector", COLLECTORS)
def test_garbage_goes_back_to_the_system(start: Start, collector: str, tmp_path: Path) -> None:
    """Most of the garbage of an idle heap comes free; live data stays; the ratios are put back; once is enough."""
    share, options = COLLECTORS[collector]
    process = start(*options)
    care, work = cared(quick(), process.pid, tmp_path)
    work(0.8)
    jvm = care.jvms[process.pid]
    before = jvm.resident_bytes()
    garbage_bytes = jvm.heap.used - LIVE_MIB * MIB
    work(9.0)
    assert before - jvm.resident_bytes() > share * garbage_bytes
    assert jvm.heap.used >= LIVE_MIB * MIB
    flags = subprocess.run(["jinfo", "-flag", "MaxHeapFreeRatio", str(process.pid)], capture_output=True, text=True, check=True)
    assert flags.stdout.strip() in {"-XX:MaxHeapFreeRatio=70", "-XX:MaxHeapFreeRatio=100"}
    first = jvm.done_at
    work(2.0)
    assert jvm.done_at == first
    assert process.poll() is None


def test_a_busy_jvm_and_one_switched_off_are_left_alone(start: Start, tmp_path: Path) -> None:
    """Whatever the host asks."""
    busy, idle = start("-XX:+UseG1GC", busy=True), start("-XX:+UseG1GC")
    for process, settings in ((busy, quick()), (idle, quick(jvm=False))):
        folder = tmp_path / str(process.pid)
        folder.mkdir()
        care, work = cared(settings, process.pid, folder)
        work(1.5)
        care.make_ready()
        work(2.5)
        assert set(care.jvms) == ({process.pid} if settings.jvm else set())
        assert all(jvm.done_at < 0 for jvm in care.jvms.values())


def test_the_host_asks_and_gets_garbage(start: Start, tmp_path: Path) -> None:
    """An idle heap is what make ready has to give when nothing else is free; how much came free is said."""
    process = start("-XX:+UseG1GC")
    settings = quick(jvm_idle_s=1e9, jvm_every_s=3.0, reclaim=False)
    care, work = cared(settings, process.pid, tmp_path)
    work(1.0)
    settings.jvm_idle_s = 0.0
    memory, before = Memory(), care.jvms[process.pid].resident_bytes()
    ready = Ready(memory, care, settings)
    ready.begin(2 * memory.free_bytes(), time.monotonic())  # more than there is: all that can be had is asked for
    done = ready.step(time.monotonic())
    assert care._wanted == {process.pid}
    while done is None:
        work(0.05)
        done = ready.step(time.monotonic())
    assert before - care.jvms[process.pid].resident_bytes() > 150 * MIB
    assert 0 < done["ready_bytes"] < memory.total_bytes()


def test_a_process_that_is_no_jvm_is_not_signalled(tmp_path: Path) -> None:
    """SIGQUIT would end it."""
    process = subprocess.Popen(["sleep", "30"])
    _, work = cared(quick(), process.pid, tmp_path)
    work(0.5)
    assert process.poll() is None
    process.kill()
    process.wait()


HEAPS = {
    "G1 17": (b" garbage-first heap   total 262144K, used 1234K [0x1, 0x2)\n region size 1024K", 262144, 1234),
    "G1 25": (b" garbage-first heap   total reserved 4194304K, committed 262144K, used 1234K [0x1, 0x2)\n", 262144, 1234),
    "Parallel": (b" PSYoungGen total 100K, used 10K [0x1\n  eden space 90K, 1% used\n ParOldGen total 200K, used 20K [", 300, 30),
    "Serial": (b" def new generation   total 100K, used 10K [0x\n tenured generation   total 200K, used 20K [0x\n", 300, 30),
    "ZGC": (b" ZHeap           used 108M, capacity 528M, max capacity 1024M\n", 528 * 1024, 108 * 1024),
    "Shenandoah": (b"Shenandoah Heap\n 1024M max, 1024M soft max, 572M committed, 501M used\n", 572 * 1024, 501 * 1024),
}


@pytest.mark.parametrize("collector", HEAPS)
def test_heaps_are_read(collector: str) -> None:
    """As each collector writes them."""
    text, committed_kib, used_kib = HEAPS[collector]
    found = heap(text + b" Metaspace       used 80K, committed 320K, reserved 1114112K\n")
    assert found is not None
    assert (found.committed, found.used) == (committed_kib << 10, used_kib << 10)
    assert heap(b"something new") is None
