"""All memory back, by order: scripted guests at real QMP sockets, a made-up host, the command as an operator types it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from field_host import Field

PROGRAM = Path(sys.executable).with_name("ballonet")
GIB = 1 << 10
TOTAL, RESERVE = 18 * GIB + 500, 500


def run(field_of: Field, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    config = field_of.folder / "ballonet.toml"
    done = subprocess.run([PROGRAM, *words, "-c", config], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def deflated(field_of: Field, *words: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(field_of, "deflate", *words, "--json", code=code).stdout)
    return found


def tight_host(field_of: Field) -> None:
    """18.5 GiB for three of 8: two have ballooned down, one has cache that it lives on."""
    field_of.host(TOTAL)
    field_of.guest("a", 8 * GIB, keep=5 * GIB, use=[(0, 2 * GIB, 1e9)])
    field_of.guest("b", 8 * GIB, keep=5 * GIB, use=[(0, 2 * GIB, 1e9)])
    field_of.guest("web", 8 * GIB, use=[(0, 3 * GIB, 1e9)], cache=3 * GIB)


def test_a_guest_gets_all_of_its_memory_and_keeps_it(field_of: Field) -> None:
    """First it is said, then done; what others use and fill stays theirs."""
    tight_host(field_of)
    field_of.run(reserve=RESERVE)
    told = run(field_of, "deflate", "a", "--dry-run").stderr
    assert "a: 3 GiB back, from 5 GiB to 8 GiB" in told
    assert field_of.state("a")["keep"] == 5 * GIB
    assert "--yes" in run(field_of, "deflate", "a", code=2).stderr  # asked, and nobody there to answer
    found = deflated(field_of, "a", "--yes", "--why", "backup")
    assert (found["done"], found["missing"]) == (["a"], {})
    field_of.until(lambda: field_of.state("a")["keep"] == 8 * GIB)
    assert field_of.state("web")["lowest"] >= 6 * GIB
    assert "on hold with all of its memory (backup); to let it go: ballonet release a" in field_of.told("a").leave_alone
    field_of.say("b", use=[[0, 4800, 2000]])  # a neighbour that wants more takes nothing from it
    field_of.until(lambda: field_of.state("b")["used"] >= 4799)
    field_of.always(lambda: field_of.state("a")["keep"] == 8 * GIB, 2)
    run(field_of, "release", "a")
    field_of.until(lambda: not field_of.told("a").leave_alone)


def test_what_is_not_there_is_not_given_and_said(field_of: Field) -> None:
    """All guests of a host that has lent more than it has: as far as it goes, exit 1, and who lacks what."""
    tight_host(field_of)
    field_of.run(reserve=RESERVE)
    done = run(field_of, "deflate", "--all", "--yes", "--for", "10m", code=1)
    told = " ".join(done.stderr.split())
    assert "cannot come back now: this host has lent more than it has" in told
    assert "GiB of its 8 GiB back, as much as the host can spare: on hold with all of its memory for 10 min more" in told
    keeps = [one["keep"] for one in field_of.states().values()]
    assert TOTAL - RESERVE - 100 <= sum(keeps) <= TOTAL - RESERVE
    assert field_of.least_available >= 0
    assert sum(one["paged_out"] for one in field_of.states().values()) == 0


def test_without_a_daemon_it_is_done_all_the_same(field_of: Field) -> None:
    """Before ballonet is removed: in mode observe, with nobody at the socket."""
    field_of.host(32 * GIB)
    field_of.guest("a", 8 * GIB, keep=5 * GIB, use=[(0, 2 * GIB, 1e9)])
    field_of.guest("b", 8 * GIB, keep=6 * GIB, use=[(0, 2 * GIB, 1e9)])
    field_of.run(more='[guest.default]\nmode = "observe"\n')
    run(field_of, "mode", "observe")
    assert "ballonet mode act" in run(field_of, "deflate", "--all", "--yes", code=1).stderr
    assert field_of.daemon is not None
    field_of.daemon.terminate()
    field_of.daemon.wait()
    assert deflated(field_of, "a", "--yes")["done"] == ["a"]
    assert (field_of.state("a")["keep"], field_of.state("b")["keep"]) == (8 * GIB, 6 * GIB)
    assert deflated(field_of, "--all", "--yes")["done"] == ["a", "b"]
    assert field_of.state("b")["keep"] == 8 * GIB
    assert "no guest 'c'" in run(field_of, "deflate", "c", "--yes", code=1).stderr
