"""Runs the services of deploy/compose.yaml as processes, each in namespaces like a container's.

A container here has a root of its own that is read-only, /data and /tmp to write to, the secrets at
/run/secrets, the user and the networks of the compose file, and no capability. The files of this
machine stand in for the image: its libraries, the Python of the tests, the packages under test.
Limits of memory and processes are not enforced, as that takes cgroups; what is used is measured.

    python containers.py SECRETS FOLDER     in namespaces of its own, where it may do all of that
    python containers.py --plain N …        as plain processes on loopback, the ports shifted by N

runs the client of example 05 on them, kills the platform in between, and prints a report in JSON.
Without TLS in the platform, its containers share one network, and it listens on loopback there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose_file import DEPLOY, ROOT, Image, Service, services

import soorma
import soorma_platform

HAS_TLS = any(
    "SOORMA_TLS_CERT" in path.read_text("utf-8")
    for path in Path(soorma_platform.__file__).parent.glob("*.py")
)
"""Whether the platform serves TLS, and so may listen off loopback."""
EXAMPLE = ROOT / "examples" / "05-memory-working"
GOAL = "Write a blog post about Docker"
SECONDS = 30.0
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "usr")

# Run inside a container: what it may do.
PROBE = """
import json, os, re, socket
status = open('/proc/self/status').read()
def writes(path):
    try:
        open(path, 'w').close()
    except OSError as error:
        return error.strerror
    return 'yes'
def reaches(address):
    with socket.socket() as one:
        one.settimeout(1)
        return os.strerror(one.connect_ex(address))
print(json.dumps({
    'user': os.getuid(),
    'privileges': dict(re.findall(r'^(CapEff|CapBnd|NoNewPrivs):\\s*(\\S+)', status, re.M)),
    'writes': {path: writes(path) for path in
        ('/data/probe', '/tmp/probe', '/probe', '/opt/soorma/probe', '/run/secrets/probe')},
    'secrets': sorted(os.listdir('/run/secrets')),
    'outside': reaches(('192.0.2.1', 443)),
}))
"""


# --- How a service is run ------------------------------------------------------------------


@dataclass
class Running:
    """A service that runs: its process, and the process in it."""

    service: Service
    process: subprocess.Popen[bytes]
    pid: int


class Machine:
    """Runs services; `secrets` are those of make-secrets.sh, `folder` holds volumes and logs."""

    def __init__(self, secrets: Path, folder: Path) -> None:
        self.secrets, self.folder = secrets, folder
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)

    def start(self, service: Service) -> Running:
        """Starts a service."""
        raise NotImplementedError

    def execute(self, running: Running, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command beside a service, as `docker compose exec` does."""
        raise NotImplementedError

    def url(self, port: int) -> str:
        """The address of a published port."""
        return f"{'https' if HAS_TLS else 'http'}://localhost:{port}"

    def log(self, service: Service) -> Path:
        """What a service has said."""
        return self.folder / f"{service.name}.log"

    def spawn(
        self, service: Service, argv: list[str], env: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with self.log(service).open("ab") as log:
            return subprocess.Popen(
                argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


def without_tls(text: str) -> str:
    """A setting, until the platform serves TLS: then it may listen off loopback."""
    if HAS_TLS:
        return text
    return text.replace("https://platform:", "http://localhost:").replace("0.0.0.0", "127.0.0.1")


def environment(service: Service) -> dict[str, str]:
    """The environment of a service, and the packages under test."""
    told = {name: without_tls(value) for name, value in service.environment.items()}
    if not HAS_TLS:
        for name in ("SOORMA_TLS_CERT", "SOORMA_TLS_KEY", "SSL_CERT_FILE"):
            told.pop(name, None)
    shared = {"PYTHONPATH": os.pathsep.join(packages()), "TASK_SECONDS": "0.05"}
    return {"PATH": "/opt/soorma/bin:/usr/bin:/bin", **shared, **told}


def packages() -> list[str]:
    """The folder of the packages under test."""
    return [str(Path(soorma.__file__).parents[1])]


class Loopback(Machine):
    """Plain processes on loopback: paths and ports are those of this machine."""

    def __init__(self, secrets: Path, folder: Path, offset: int) -> None:
        super().__init__(secrets, folder)
        self.offset = offset

    def url(self, port: int) -> str:
        return super().url(port + self.offset)

    def start(self, service: Service) -> Running:
        argv = self._command([self._here(service, without_tls(word)) for word in service.argv])
        process = subprocess.Popen(
            argv,
            env=self._environment(service),
            cwd=self._here(service, service.folder),
            stdin=subprocess.DEVNULL,
            stdout=self.log(service).open("ab"),
            stderr=subprocess.STDOUT,
        )
        return Running(service, process, process.pid)

    def execute(self, running: Running, argv: list[str]) -> subprocess.CompletedProcess[str]:
        service = running.service
        words = [self._here(service, word) for word in argv]
        return subprocess.run(
            self._command(words), env=self._environment(service), capture_output=True,
            text=True, check=False, timeout=SECONDS,
        )  # fmt: skip

    def _environment(self, service: Service) -> dict[str, str]:
        told = {name: self._here(service, value) for name, value in environment(service).items()}
        return {**told, "SOORMA_PORT_OFFSET": str(self.offset)}

    def _command(self, argv: list[str]) -> list[str]:
        programs = {"soorma": [sys.executable, "-m", "soorma.cli"], "python": [sys.executable]}
        return [*programs[argv[0]], *argv[1:]]

    def _here(self, service: Service, text: str) -> str:
        places = {
            **service.mounts,
            "/data": self.data,
            "/opt/soorma/healthcheck.py": DEPLOY / "healthcheck.py",
        }
        for place, path in places.items():
            text = re.sub(rf"^{place}\b", str(path), text)
        moved = text.replace("//platform:", "//localhost:")
        if "://" in moved:
            return re.sub(r":(80\d\d)", lambda port: f":{int(port[1]) + self.offset}", moved)
        return moved.replace("0.0.0.0", "127.0.0.1")


class Containers(Machine):
    """Namespaces. This process has some of its own, in which it may do what root may."""

    def __init__(self, secrets: Path, folder: Path) -> None:
        super().__init__(secrets, folder)
        self._addresses: dict[str, list[str]] = {}
        call("mount", "--make-rprivate", "/")
        call("mount", "-t", "tmpfs", "none", "/run")
        call("ip", "link", "set", "lo", "up")
        for number, network in enumerate(("agents", "published")):
            call("ip", "link", "add", network, "type", "bridge")
            call("ip", "link", "set", network, "up")
            self._addresses[network] = [f"10.77.{number}.{host}" for host in range(254, 1, -1)]
        call("ip", "addr", "add", "10.77.1.1/24", "dev", "published")
        self.hosts = {"localhost": "127.0.0.1"}
        self._put: set[str] = set()

    def start(self, service: Service) -> Running:
        self._connect(service)
        plan = {
            "mounts": {place: str(path) for place, path in service.mounts.items()},
            "volumes": {place: str(self.data) for place in service.volumes},
            "user": service.user,
            "hosts": self.hosts,
            "folder": service.folder,
            "argv": [without_tls(word) for word in service.argv],
        }
        process = self.spawn(
            service,
            ["nsenter", f"--net=/run/netns/{self._network(service)}", "unshare", "--mount", "--pid",
             "--ipc", "--uts", "--fork", "--kill-child=SIGTERM",
             sys.executable, __file__, "--inside", json.dumps(plan)],
            environment(service),
        )  # fmt: skip
        pid = wait_for(lambda: child_of(process.pid), f"{service.name} has no process")
        return Running(service, process, pid)

    def execute(self, running: Running, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={running.pid}", "--mount", "--net", "--pid", "--root", "--wd",
             *dropping(running.service.user), *argv],
            env=environment(running.service), capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip

    def _network(self, service: Service) -> str:
        return service.name if HAS_TLS else "shared"

    def _connect(self, service: Service) -> None:
        """Makes the network namespace of a service, with a link to each of its networks."""
        name = self._network(service)
        if name in self._put:
            return
        self._put.add(name)
        call("ip", "netns", "add", name)
        call("ip", "-n", name, "link", "set", "lo", "up")
        for network in service.networks:
            address, link = self._addresses[network].pop(), f"{network[0]}-{name}"
            call("ip", "link", "add", link, "type", "veth", "peer", "name", network, "netns", name)
            call("ip", "link", "set", link, "master", network, "up")
            call("ip", "-n", name, "addr", "add", f"{address}/24", "dev", network)
            call("ip", "-n", name, "link", "set", network, "up")
            if network == "agents":
                self.hosts[service.name] = address
            else:
                self._publish(service, address if HAS_TLS else None)

    def _publish(self, service: Service, address: str | None) -> None:
        """Forwards this machine's ports to a service, as the proxy of a container engine does."""
        if (
            address is None
        ):  # it listens on the loopback of its own namespace, where clients run too
            return
        threading.Thread(target=forward, args=(service.ports, address), daemon=True).start()

    def client(self, argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs a program on the machine that publishes the ports."""
        where = [] if HAS_TLS else ["nsenter", "--net=/run/netns/shared"]
        return subprocess.run(
            [*where, *argv], env=env, capture_output=True, text=True, check=False, timeout=SECONDS
        )


def forward(ports: list[int], address: str) -> None:
    """Forwards ports of loopback to the same ones of an address, for as long as this process is."""

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                sink.write(chunk)
                await sink.drain()
        sink.close()

    async def serve() -> None:
        def proxy(port: int) -> Any:
            async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    there, back = await asyncio.open_connection(address, port)
                except OSError:
                    writer.close()
                    return
                await asyncio.gather(copy(reader, back), copy(there, writer))

            return pass_on

        servers = [await asyncio.start_server(proxy(port), "127.0.0.1", port) for port in ports]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(serve())


# --- The inside of a container -------------------------------------------------------------


def inside(plan: dict[str, Any]) -> None:
    """Makes the root of a container, enters it, and becomes its process."""
    root = Path("/run/root")
    root.mkdir(exist_ok=True)  # the folder is shared, what is mounted on it is not
    call("mount", "-t", "tmpfs", "-o", "mode=0755", "none", root)
    for name in SYSTEM:
        there = Path("/", name)
        if there.is_symlink():
            (root / name).symlink_to(there.readlink())
        elif there.exists():
            bind(there, root / name)
    # Before the packages, which may lie below /tmp.
    for place in ("tmp", "dev/shm"):
        (root / place).mkdir(parents=True)
        call("mount", "-t", "tmpfs", "-o", "size=64m,mode=1777,noexec", "none", root / place)
    for path in {sys.base_prefix, sys.prefix, *packages()}:
        bind(Path(path), root / path.lstrip("/"))
    _make_programs(root / "opt/soorma")
    _make_etc(root / "etc", plan["hosts"])
    for device in DEVICES:
        bind(Path("/dev", device), root / "dev" / device, read_only=False)
    (root / "proc").mkdir()
    call("mount", "-t", "proc", "proc", root / "proc")
    for place, path in plan["mounts"].items():
        bind(Path(path), root / place.lstrip("/"))
    for place, path in plan["volumes"].items():
        bind(Path(path), root / place.lstrip("/"), read_only=False)
    (root / "data").mkdir(exist_ok=True)
    call("mount", "-o", "remount,ro", root)
    os.chroot(root)
    os.chdir(plan["folder"])
    words = [*dropping(plan["user"]), *plan["argv"]]
    os.execvp(words[0], words)


def _make_programs(folder: Path) -> None:
    """The programs that an image has: those of this environment, under other names."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(DEPLOY / "healthcheck.py", folder)
    for name, words in {"python": "", "soorma": "-m soorma.cli"}.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)


def _make_etc(folder: Path, hosts: dict[str, str]) -> None:
    folder.mkdir()
    (folder / "hosts").write_text("".join(f"{at} {name}\n" for name, at in hosts.items()))
    (folder / "nsswitch.conf").write_text("hosts: files\n")
    cache = Path("/etc/ld.so.cache")
    if cache.exists():
        shutil.copy(cache, folder)


def dropping(user: str) -> list[str]:
    """What drops all privileges; who is not root outside has only one user to be."""
    drop = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    if not may_be_anybody():
        return drop
    uid, _, gid = user.partition(":")
    return [*drop, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]


def may_be_anybody() -> bool:
    """Whether this process may become another user: the namespace has more than one."""
    return int(Path("/proc/self/uid_map").read_text("ascii").split()[2]) > 1


def bind(source: Path, place: Path, *, read_only: bool = True) -> None:
    """Shows a file or folder at another place."""
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    call("mount", "--bind", source, place)
    if read_only:
        call("mount", "-o", "remount,bind,ro", place)


def call(*words: str | Path) -> None:
    """Runs a program; CalledProcessError, with what it said, if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")


def child_of(pid: int) -> int:
    """The first child of a process; 0 if it has none."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0])
    return 0


def wait_for(check: Any, otherwise: str) -> Any:
    """The first true thing that a function returns; RuntimeError if none comes in time."""
    until = time.monotonic() + SECONDS
    while not (found := check()):
        if time.monotonic() > until:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
    return found


# --- The run -------------------------------------------------------------------------------


@dataclass
class Run:
    """The services of the compose file on a machine, and a client."""

    machine: Machine
    up: dict[str, Running] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    def start(self, service: Service) -> None:
        self.up[service.name] = self.machine.start(service)

    def wait_until_healthy(self) -> None:
        command = Image().health_command
        running = self.up["platform"]

        def is_healthy() -> bool:
            if running.process.poll() is not None:
                raise RuntimeError(f"the platform ended with {running.process.returncode}")
            return self.machine.execute(running, command).returncode == 0

        wait_for(is_healthy, "the platform does not become healthy")

    def submit(self) -> str:
        """Runs the client of example 05 with the key of role app; returns what it says."""
        done = self._as_client([sys.executable, str(EXAMPLE / "client.py"), GOAL])
        if done.returncode != 0:
            raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def as_operator(self, *arguments: str) -> str:
        """Runs the soorma command with the operator's key."""
        command = [sys.executable, "-m", "soorma.cli", *arguments]
        done = self._as_client(command, key="operator.key")
        if done.returncode != 0:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def _as_client(self, argv: list[str], key: str = "app.key") -> subprocess.CompletedProcess[str]:
        services = {"MEMORY": 8083, "EVENT_SERVICE": 8082, "REGISTRY": 8081, "IDENTITY": 8085}
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.machine.folder),
            "PYTHONPATH": os.pathsep.join(packages()),
            "SOORMA_API_KEY_FILE": str(self.machine.secrets / key),
            "SSL_CERT_FILE": str(self.machine.secrets / "ca.pem"),
            **{f"SOORMA_{name}_URL": self.machine.url(port) for name, port in services.items()},
        }
        if isinstance(self.machine, Containers):
            return self.machine.client(argv, env)
        return subprocess.run(
            argv, env=env, cwd=self.machine.folder, capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip

    def measure(self) -> dict[str, dict[str, int]]:
        """The peak memory, in bytes, and the tasks of each service."""
        found = {}
        for name, running in self.up.items():
            status = Path(f"/proc/{running.pid}/status").read_text("utf-8")
            numbers = dict(re.findall(r"^(VmHWM|Threads):\s*(\d+)", status, flags=re.MULTILINE))
            found[name] = {"memory": int(numbers["VmHWM"]) * 1024, "tasks": int(numbers["Threads"])}
        return found

    def stop(self) -> dict[str, int]:
        """Sends SIGTERM to all services, and returns their exit codes."""
        for running in self.up.values():
            os.kill(running.pid, signal.SIGTERM)
        return {
            name: running.process.wait(running.service.stop_seconds)
            for name, running in self.up.items()
        }


@contextmanager
def cleaned(run: Run) -> Iterator[None]:
    """Ends whatever still runs; the logs tell what a failure was about."""
    try:
        yield
    except BaseException:
        for running in run.up.values():
            said = run.machine.log(running.service).read_text("utf-8", "replace")
            sys.stderr.write(f"--- {running.service.name}\n{said[-3000:]}\n")
        raise
    finally:
        for running in run.up.values():
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
            running.process.kill()
            running.process.wait()


def walk(machine: Machine) -> dict[str, Any]:
    """Starts all, runs the client, kills the platform, runs the client again, stops all."""
    run = Run(machine)
    report = run.report
    platform, *agents = services(machine.secrets)
    with cleaned(run):
        run.start(platform)
        run.wait_until_healthy()
        for agent in agents:
            run.start(agent)
        report["said"] = run.submit()
        report["keys"] = json.loads(run.as_operator("keys", "list", "--json"))
        copied = machine.execute(
            run.up["platform"], ["soorma", "backup", "/data/copy.db", "--json"]
        )
        report["backup"] = json.loads(copied.stdout or "null") or copied.stderr
        if isinstance(machine, Containers):
            for name in ("platform", "worker"):
                probed = machine.execute(run.up[name], ["python", "-I", "-c", PROBE])
                report[f"probe of {name}"] = json.loads(probed.stdout or "null") or probed.stderr
        os.kill(run.up["platform"].pid, signal.SIGKILL)
        run.up["platform"].process.wait(SECONDS)
        run.start(platform)
        run.wait_until_healthy()
        report["said after a kill"] = run.submit()
        report["used"] = run.measure()
        report["exit codes"] = run.stop()
    return report


def main() -> None:
    """Runs the services; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", type=int)
    parser.add_argument("--inside")
    parser.add_argument("folders", nargs="*", type=Path)
    given = parser.parse_args()
    if given.inside:
        inside(json.loads(given.inside))
        return
    plain = given.plain
    machine = Containers(*given.folders) if plain is None else Loopback(*given.folders, plain)
    if plain is None and may_be_anybody():
        user, _, group = services(machine.secrets)[0].user.partition(":")
        os.chown(machine.data, int(user), int(group))
    sys.stdout.write(json.dumps({"tls": HAS_TLS, **walk(machine)}))


if __name__ == "__main__":
    main()
