"""Metrics: by promtool's and a real Prometheus' own judgement, and what alerts and dashboards ask for is there."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ballonet.lab.image import cache_folder
from daemons import TOKEN, Daemon, free_port, until

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "packaging/prometheus/alerts.yaml"


def program(name: str) -> str:
    """Of Prometheus, where `tools/setup prometheus` has unpacked it."""
    found = shutil.which(name) or shutil.which(name, path=str(cache_folder() / "prometheus/usr/bin"))
    if found is None:
        pytest.skip(f"no {name}: tools/setup prometheus")
    return found


def scraped(daemon: Daemon) -> str:
    with httpx.Client(base_url=f"http://{daemon.listen}", headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        answer = http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.text


def names(text: str) -> set[str]:
    return set(re.findall(r"\bballonet_[a-z_]+\b", text))


def test_promtool_finds_nothing_wrong(daemon: Daemon) -> None:
    """Names, units, help texts; and the alert rules."""
    promtool = program("promtool")
    until(lambda: "ballonet_guest_commands_total{" in scraped(daemon))
    done = subprocess.run([promtool, "check", "metrics"], input=scraped(daemon), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    subprocess.run([promtool, "check", "rules", ALERTS], check=True, capture_output=True)


def test_labels_join_with_the_libvirt_exporters(daemon: Daemon) -> None:
    """`domain` and `uuid` name a guest, as theirs do."""
    text = scraped(daemon)
    keeps = re.findall(r'ballonet_guest_keep_bytes\{domain="(v-[0-9])",uuid="([0-9a-f-]{36})"\} ([0-9.e+]+)', text)
    assert [name for name, _, _ in keeps] == ["v-0", "v-1", "v-2"]
    assert all(float(value) > 0 for _, _, value in keeps)
    assert sum(map(float, re.findall(r"ballonet_host_state\{[^}]*\} ([01])", text))) == 1


def test_alerts_and_dashboards_ask_for_what_there_is(daemon: Daemon) -> None:
    """Each metric that they name is served; each alert has its page."""
    until(lambda: "ballonet_guest_commands_total{" in scraped(daemon))
    served = names(scraped(daemon))
    rules = ALERTS.read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert len(alerts) >= 10
    assert names(rules) <= served
    for alert in alerts:
        page = ROOT / f"docs/runbooks/{alert}.md"
        assert f"docs/runbooks/{alert}.md" in rules
        assert all(f"## {part}" in page.read_text() for part in ("Look", "Do"))
    assert {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} == set(alerts)
    for board in (ROOT / "packaging/grafana").glob("*.json"):
        panels = json.loads(board.read_text())["panels"]
        asked = [target["expr"] for panel in panels for target in panel["targets"]]
        assert len(asked) >= 8
        assert names(" ".join(asked)) <= served, board


@pytest.fixture
def prometheus(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    """A real one on loopback that scrapes the daemon each second: its address."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "token").write_text(TOKEN)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": "ballonet",
                "authorization": {"credentials_file": str(tmp_path / "token")},
                "static_configs": [{"targets": [daemon.listen]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    words = [program("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    process = subprocess.Popen([*words, f"--web.listen-address={address}", "--log.level=error"], env=os.environ)
    yield address
    process.terminate()
    process.wait()


def test_a_real_prometheus_scrapes_it(daemon: Daemon, prometheus: str) -> None:
    """With the token, all guests, and its rules evaluated: none fires, but the hold that is made."""

    def asked(query: str) -> list[float]:
        try:
            answer = httpx.get(f"http://{prometheus}/api/v1/query", params={"query": query}).raise_for_status()
        except httpx.HTTPError:  # it does not listen yet, or is not ready
            return []
        found = answer.json().get("data", {}).get("result", [])
        return [float(one["value"][1]) for one in found]

    until(lambda: asked('up{job="ballonet"}') == [1.0])
    until(lambda: len(asked("ballonet_guest_need_bytes")) == 3)
    assert asked("ballonet_host_promised_bytes <= ballonet_host_guests_bytes")
    daemon.cli("hold", "--for", "1h")
    until(lambda: asked("ballonet_hold") == [1.0])
    daemon.cli("release")
    until(lambda: asked("ballonet_hold") == [0.0])
    rules = httpx.get(f"http://{prometheus}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]
