"""A disk with real applications, their data filled in: PostgreSQL, MariaDB, Redis, nginx, with pgbench and sysbench to ask them.

Made of Debian's packages, unpacked into a root of its own and filled there by `chroot`: nothing is installed on the host, and no
service of it is touched. A guest mounts the disk and runs one of them (image/apps.py). Cached under the checksum of its recipe.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from ballonet.lab import package
from ballonet.lab.disk import cached_disk, run
from ballonet.lab.errors import LabUnavailableError

PACKAGES: Final = ("dash", "postgresql", "mariadb-server-core", "sysbench", "redis-server", "nginx-light")
_USER: Final = 1000
"""The user that runs the servers: PostgreSQL refuses to run as root."""
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Below /usr in each Debian since 12; packages of 12 still bring files for both places."""
_LEAVE: Final = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl", "usr/share/perl5", "usr/share/i18n"),
    *("usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/llvm-14", "var/cache"),
)
_LEAVE_LIBRARIES: Final = ("libLLVM*", "libz3*", "libperl*")
POSTGRES_SCALE: Final = 14
"""pgbench's: 179 MiB of rows and 30 MiB of index."""
MARIADB_ROWS: Final = 800_000
"""sysbench's: 188 MiB."""
REDIS_KEYS: Final = 120_000
"""Of 1 KiB: 134 MiB resident."""
NGINX_FILES: Final = 6_400
NGINX_BYTES: Final = 32 << 10
"""200 MiB in all."""
_SPARE_BYTES: Final = 320 << 20
"""For logs, what PostgreSQL writes ahead, and the file system itself."""
_READY_S: Final = 60.0
_WORLD: Final = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"}

_SERVERS: Final = {
    "postgresql": (
        "exec {postgres}/postgres -D /data/postgresql -k /run -c listen_addresses= -c shared_buffers=32MB -c jit=off"
        " -c max_connections=20 -c autovacuum=off -c checkpoint_timeout=1h"
    ),
    "mariadb": (
        "exec /usr/sbin/mariadbd --no-defaults --datadir=/data/mariadb --socket=/run/mariadb.sock --skip-networking"
        " --skip-grant-tables --innodb-buffer-pool-size=32M --innodb-flush-method=fsync --performance-schema=off"
        " --innodb-log-file-size=16M --pid-file=/run/mariadb.pid --lc-messages-dir=/usr/share/mysql"
    ),
    "redis": (
        "exec /usr/bin/redis-server --port 0 --unixsocket /run/redis.sock --dir /data/redis --save '' --enable-debug-command yes"
    ),
    "nginx": "exec /usr/sbin/nginx -c /srv/nginx.conf -g 'daemon off;'",
}
"""How each is started, within the disk. `fsync`: with O_DIRECT, InnoDB would not use the page cache."""
SOCKETS: Final = {name: f"run/{file}" for name, file in {
    "postgresql": ".s.PGSQL.5432", "mariadb": "mariadb.sock", "redis": "redis.sock", "nginx": "nginx.sock",
}.items()}  # fmt: skip
_CLIENTS: Final = {
    "postgresql": (
        "exec {postgres}/pgbench -h /run -U server -n -S -c 2 -R $1 --latency-limit=500 -T 100000 -l"
        " --log-prefix=/run/tx postgres"
    ),
    "mariadb": (
        "exec sysbench oltp_point_select --db-driver=mysql --mysql-socket=/run/mariadb.sock --mysql-db=test --tables=1"
        " --table-size={rows} --threads=2 --rand-type=uniform --rate=$1 --time=$2 --report-interval=$2 --histogram=on run"
    ),
}
"""How the clients that come with them are started: $1 requests a second, for $2 seconds. The others have a client of ours."""
_NGINX: Final = """pid /run/nginx.pid;
error_log /dev/null;
worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path /run/body; proxy_temp_path /run/proxy; fastcgi_temp_path /run/fastcgi;
  uwsgi_temp_path /run/uwsgi; scgi_temp_path /run/scgi;
  server { listen unix:/run/nginx.sock; root /data/nginx; keepalive_requests 1000000; }
}
"""


def apps_disk() -> Path:
    """The disk's image, from the cache or built now: about two minutes.

    Raises:
        LabUnavailableError: no packages here, or nobody who may chroot.
    """
    package.require_host()
    if os.geteuid():
        raise LabUnavailableError("real applications are filled with data in a root of their own: run it as root")
    if shutil.which("mke2fs") is None:
        raise LabUnavailableError("no mke2fs; as root: apt-get install --no-install-recommends e2fsprogs")
    packages = package.closure(PACKAGES)
    parts = [json.dumps(packages, sort_keys=True).encode(), Path(__file__).read_bytes()]
    return cached_disk("apps", parts, partial(_build, packages))


def _build(packages: dict[str, str], work: Path) -> Path:
    root, disk = work / "root", work / "disk"
    package.unpack(packages, root)
    _merge(root)
    _thin(root)
    _furnish(root)
    for fill in (_fill_postgresql, _fill_mariadb, _fill_redis, _fill_nginx):
        fill(root)
    for name in ("run", "tmp", "dev", "proc"):  # what the fillers left; a guest mounts its own
        shutil.rmtree(root / name)
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    size = sum(path.lstat().st_size for path in root.rglob("*")) + _SPARE_BYTES
    run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(root), str(disk), f"{size * 11 // 10 // 1024}k")
    shutil.rmtree(root)
    return disk


def _merge(root: Path) -> None:
    for name in _MERGED:
        (root / "usr" / name).mkdir(exist_ok=True)
        if (root / name).is_dir() and not (root / name).is_symlink():
            run("cp", "-a", f"{root / name}/.", str(root / "usr" / name))
            shutil.rmtree(root / name)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")


def _thin(root: Path) -> None:
    for name in _LEAVE:
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in _LEAVE_LIBRARIES:
        for path in (root / "usr/lib/x86_64-linux-gnu").glob(pattern):
            path.unlink()


def _furnish(root: Path) -> None:
    """Users, devices, and how everything is started."""
    for name in ("dev", "proc", "run", "tmp", "data", "srv", "etc", "var/log/nginx", "var/lib/nginx", "dev/shm"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("run", "tmp", "dev/shm"):
        (root / name).chmod(0o1777)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nserver:x:{_USER}:{_USER}::/tmp:/bin/sh\n")
    (root / "etc/group").write_text(f"root:x:0:\nserver:x:{_USER}:\n")
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o20666, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    words = {"postgres": _postgres(root), "rows": MARIADB_ROWS}
    for folder, lines in (("start", _SERVERS), ("client", _CLIENTS)):
        for name, line in lines.items():
            (root / "srv" / f"{name}.{folder}").write_text(line.format_map(words) + "\n")
    (root / "srv/nginx.conf").write_text(_NGINX)
    for name in _SERVERS:
        (root / "data" / name).mkdir(mode=0o700)
        os.chown(root / "data" / name, _USER, _USER)


def _postgres(root: Path) -> str:
    """Where its programs lie in the disk: by its version."""
    return f"/{next((root / 'usr/lib/postgresql').iterdir()).relative_to(root)}/bin"


def _fill_postgresql(root: Path) -> None:
    where = _postgres(root)
    _inside(root, f"{where}/initdb", "-D", "/data/postgresql", "-U", "server", "-A", "trust", "--locale=C", "--no-sync")
    with _served(root, "postgresql"):
        _inside(root, f"{where}/pgbench", "-h", "/run", "-U", "server", "-i", "-q", "-s", str(POSTGRES_SCALE), "postgres")
        _inside(root, f"{where}/psql", "-h", "/run", "-U", "server", "-c", "checkpoint", "postgres")


def _fill_mariadb(root: Path) -> None:
    share = root / "usr/share/mysql"
    text = "create database test;\ncreate database mysql;\nuse mysql;\n"
    text += "".join((share / name).read_text() for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql"))
    words = (root / "srv/mariadb.start").read_text().removeprefix("exec ").split()
    _inside(root, *words, "--bootstrap", stdin=text)
    with _served(root, "mariadb"):
        connect = ("--db-driver=mysql", "--mysql-socket=/run/mariadb.sock")
        table = ("--tables=1", f"--table-size={MARIADB_ROWS}", "--mysql-db=test")
        _inside(root, "/usr/bin/sysbench", "oltp_point_select", *connect, *table, "prepare")


def _fill_redis(root: Path) -> None:
    with _served(root, "redis"):
        cli = ("/usr/bin/redis-cli", "-s", "/run/redis.sock")
        _inside(root, *cli, "debug", "populate", str(REDIS_KEYS), "key", "1024")
        _inside(root, *cli, "save")


def _fill_nginx(root: Path) -> None:
    source = random.Random(0)  # noqa: S311 what nobody can compress, no secret
    for number in range(NGINX_FILES):
        (root / "data/nginx" / f"{number}").write_bytes(source.randbytes(NGINX_BYTES))
    run("chown", "-R", f"{_USER}:{_USER}", str(root / "data/nginx"))


@contextlib.contextmanager
def _served(root: Path, name: str) -> Iterator[None]:
    """While one server runs within the root. Raises LabUnavailableError when it does not come up."""
    log = root.parent / f"{name}.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["/bin/sh", f"/srv/{name}.start"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_WORLD,
            preexec_fn=_enter(root),
        )
    try:
        end = time.monotonic() + _READY_S
        while not (root / SOCKETS[name]).exists():
            if server.poll() is not None or time.monotonic() > end:
                raise LabUnavailableError(f"{name} does not start in the disk of applications: {log.read_text()[-300:]}")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def _inside(root: Path, *words: str, stdin: str = "") -> None:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, env=_WORLD, preexec_fn=_enter(root))
    if done.returncode:
        raise LabUnavailableError(f"`{words[0]}` failed: {(done.stderr or done.stdout).strip()[-300:]}")


class _enter:  # noqa: N801 called in the child as if it were a function
    """In a child: into the root, as the user that runs the servers."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def __call__(self) -> None:
        os.chroot(self._root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(_USER)
        os.setuid(_USER)
