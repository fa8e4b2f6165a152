# The verbs. `make` alone lists them.
.PHONY: help try matrix attack setup fmt check test demo lab sim fuzz bench bench-lab bench-seeds bench-own-loops bench-policies bench-reaction bench-java bench-apps bench-agent bench-daemon bench-domains bench-vsphere calibrate agent deb docs lock all
bin = .venv/bin
SCENARIO ?= consolidation
HOURS ?= 100000

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 16
try: ## a simulated host with the whole daemon and its live board, in seconds; without root, QEMU or a configuration
	@tools/try
setup: ## the environment in .venv and QEMU, where they are missing
	@tools/setup
fmt: setup ## format the code
	$(bin)/ruff format src tests benchmarks
	$(bin)/ruff check --fix --exit-zero -q src tests benchmarks
check: setup ## style, types, layers, and the words that operators read
	$(bin)/ruff check src tests benchmarks
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/python tools/words
test: setup ## all tests; those on real guests where QEMU can be had
	@tools/setup jdk libvirt prometheus vsphere hyperv
	$(bin)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder tests/field tests/control tests/hyperv tests/vsphere tests/domains tests/guest tests/unit tests/contract
	$(bin)/python -m pytest tests/lab
demo: setup ## the main job on real guests: ten of them on three quarters of their memory
	$(bin)/ballonet demo
lab: setup ## one scenario on real guests: make lab SCENARIO=spike
	$(bin)/ballonet lab run $(SCENARIO)
sim: setup ## one scenario on simulated guests: make sim SCENARIO=storm-3
	$(bin)/ballonet simulate $(SCENARIO)
fuzz: setup ## storms of random guests and faults: make fuzz HOURS=100000 (VM-hours, simulated)
	$(bin)/python benchmarks/fuzz.py $(HOURS)
attack: setup ## hostile words, idle connections, readers without end, kills: with counts, into benchmarks/results: about 6 min
	$(bin)/python benchmarks/attack.py
bench: setup ## one tick of decide, and the simulator's speed, into benchmarks/results
	$(bin)/python benchmarks/decide_tick.py
	$(bin)/python benchmarks/sim_speed.py
bench-seeds: setup ## 75, 60 and 50 % of what is promised over 24 seeds, simulated, beside a clairvoyant: about 5 min
	$(bin)/python benchmarks/density_seeds.py
bench-own-loops: setup ## hosts like ESXi and Hyper-V, alone and with ballonet on top, simulated: about 8 min
	$(bin)/python benchmarks/own_loops.py
bench-lab: setup ## consolidation on real guests, three seeds at 75, 60 and 50 %: about 22 min
	$(bin)/python benchmarks/consolidation.py
bench-policies: setup ## every policy on real guests, five scenarios: about 65 min
	$(bin)/python benchmarks/policies_lab.py
bench-apps: setup ## PostgreSQL, MariaDB, Redis, nginx and a JVM on real guests, under every policy: about 50 min, as root
	@tools/setup jdk
	$(bin)/python benchmarks/apps.py
bench-reaction: setup ## from a spike in a real guest to the first command, by voice: about 9 min
	$(bin)/python benchmarks/reaction.py
bench-java: setup ## JVMs full of garbage on real guests, with JVM care, without, never ballooned: about 8 min
	@tools/setup jdk
	$(bin)/python benchmarks/java.py
bench-agent: setup ## what the agent costs in CPU and memory: a minute
	$(bin)/python benchmarks/agent_cost.py
bench-daemon: setup ## what the daemon costs with 100, 500 and 1,000 guests: about 6 min
	$(bin)/python benchmarks/daemon_cost.py
bench-domains: setup ## three domains through libvirt and through QMP: about 8 min
	@tools/setup libvirt
	$(bin)/python benchmarks/domains.py
bench-vsphere: setup ## one read of a vSphere API with 10, 100 and 1,000 VMs: a minute
	@tools/setup vsphere
	$(bin)/python benchmarks/vsphere_read.py
calibrate: setup ## the simulator against real guests, into benchmarks/results: about 13 min
	$(bin)/python benchmarks/calibrate.py
agent: ## the guest's agent, one file, and its systemd unit, into dist
	@mkdir -p dist && python3 src/ballonet/guest/bundle.py dist/ballonet-agent && install -m 644 src/ballonet/guest/ballonet-agent.service dist/ && ls dist
deb: setup ## a Debian package, into dist
	@tools/deb
matrix: setup ## the package and the suites that touch the system, in bare Debian 12 and 13: about 25 min, as root
	@tools/matrix
docs: setup ## check that the reference names what the code has
	$(bin)/python -m pytest -q tests/unit/test_docs.py
lock: ## pin the dependencies anew (needs uv)
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --extra plot --extra tui --extra vsphere --extra hyperv --group dev -o requirements.lock pyproject.toml
	uv pip compile -q --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --extra tui -c requirements.lock -o packaging/requirements.lock pyproject.toml
	echo libvirt-python | uv pip compile -q --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -o requirements-libvirt.lock -
all: check test ## what CI runs
