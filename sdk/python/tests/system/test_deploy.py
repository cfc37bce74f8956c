"""The files in deploy/: an image, a compose file, units, manifests, and the secrets they use."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import COMPOSE, DEPLOY, DOCKERFILE, ROOT, Image, instructions, load
from depth import DEPTH
from platform_process import BLOCK, PortReservation, answer_of, clean_environment
from running import eventually
from unit_file import UNITS, Unit

import soorma
from soorma_platform.identity.bootstrap import read_keys
from soorma_platform.settings import PORTS

SCRIPT = DEPLOY / "make-secrets.sh"
MANIFESTS = DEPLOY / "kubernetes"
SOORMA = f"{sys.executable} -m soorma.cli"
VERSION = soorma.__version__
SECONDS = 60


def run(*command: str | Path, code: int = 0, **env: str) -> str:
    """Runs a program to its end; returns what it said. It must end with that code."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, f"{command}:\n{done.stdout}"
    return done.stdout


def tool(name: str, checks: str) -> str:
    """A program beside this Python, or elsewhere on the path; says what is not checked without."""
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip(f"NOT CHECKED: {checks}; there is no {name} here")
    return found


def module(name: str, checks: str) -> Path:
    """The folder of a package that the tests need; says what is not checked without."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        pytest.skip(f"NOT CHECKED: {checks}; the package {name} is not installed")
    return Path(found.origin).parent


# --- The secrets ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make-secrets.sh makes."""
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    run("sh", SCRIPT, "--name", "soorma.example.org", "--name", "fd00::1", folder, SOORMA=SOORMA)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_in(certificate: Path) -> str:
    return run("openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName")


@pytest.mark.behaviour("deploy.secrets")
def test_the_folder_keeps_others_out(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()}
    mounted = {Path(each["file"]).name for each in load()["secrets"].values()}
    assert {name for name, mode in modes.items() if mode == 0o644} == mounted
    assert {name for name, mode in modes.items() if mode == 0o600} == modes.keys() - mounted
    assert "ca.key" not in mounted
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


@pytest.mark.behaviour("deploy.secrets")
def test_the_certificate_is_of_its_own_authority(secrets: Path) -> None:
    authority, certificate = secrets / "ca.pem", secrets / "tls.pem"
    for name in ("platform", "localhost", "soorma.example.org"):
        run("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name,
            "-CAfile", authority, certificate)  # fmt: skip
    for address in ("127.0.0.1", "::1", "fd00::1"):
        run("openssl", "verify", "-verify_ip", address, "-CAfile", authority, certificate)
    run("openssl", "verify", "-verify_hostname", "evil.example.org", "-CAfile", authority,
        certificate, code=2)  # fmt: skip


@pytest.mark.behaviour("deploy.secrets")
def test_the_keys_permit_what_example_05_does(secrets: Path) -> None:
    keys = {key.name: key for key in read_keys(secrets / "keys.toml")}
    assert {name: key.role for name, key in keys.items()} == {
        "operator": "operator", "app": "app", "agents": "agent",
    }  # fmt: skip
    for name, key in keys.items():
        assert (secrets / f"{name}.key").read_text("ascii").strip() == key.credential
    assert keys["operator"].tenant_id is None
    assert keys["agents"].tenant_id == keys["app"].tenant_id is not None


@pytest.mark.behaviour("deploy.secrets")
def test_what_is_there_stays_and_a_certificate_is_renewed_in_place(
    secrets: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    shutil.copytree(secrets, folder)
    before, names = contents(folder), names_in(folder / "tls.pem")
    run("sh", SCRIPT, folder, SOORMA="false")
    assert contents(folder) == before
    file = (folder / "tls.pem").stat().st_ino
    run("sh", SCRIPT, "--renew", "--name", "another.example.org", folder, SOORMA="false")
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"tls.pem"}
    assert (folder / "tls.pem").stat().st_ino == file, "a mounted file is followed by what it is"
    assert names_in(folder / "tls.pem").strip() == f"{names.strip()}, DNS:another.example.org"
    (folder / "ca.key").unlink()
    assert "ca.key is not there" in run("sh", SCRIPT, "--renew", folder, code=1)


@pytest.mark.behaviour("deploy.secrets")
def test_a_failure_leaves_nothing_half_made(tmp_path: Path) -> None:
    said = run("sh", SCRIPT, tmp_path, SOORMA="false", code=1)
    assert "'false keys generate' failed: install Soorma" in said
    assert {path.name for path in tmp_path.iterdir()} == {"ca.key", "ca.pem", "tls.key", "tls.pem"}
    run("sh", SCRIPT, tmp_path, SOORMA=SOORMA, TENANT="acme")
    assert {key.tenant_id for key in read_keys(tmp_path / "keys.toml")} == {None, "acme"}
    assert "not 'a b'" in run("sh", SCRIPT, "--name", "a b", tmp_path, code=1)


# --- The image -----------------------------------------------------------------------------


@pytest.mark.behaviour("deploy.image")
def test_the_image_is_pinned_and_not_root() -> None:
    image = Image()
    pins = {stage.partition(" ")[0] for stage in image.stages}
    assert len(pins) == 1, "what is built runs on what it was built on"
    assert re.fullmatch(r"python:3\.1[1-9]\.\d+-slim-[a-z]+", pins.pop())
    user, group = image.told["USER"].split(":")
    assert int(user) > 0 < int(group)
    assert f'version="{VERSION}"' in image.told["LABEL"]
    assert image.told["STOPSIGNAL"] == "SIGTERM"
    assert image.words("ENTRYPOINT") == ["soorma"]
    assert image.health_command == ["python", "-I", "/opt/soorma/healthcheck.py"]
    assert image.environment["SOORMA_DATABASE"].startswith(image.told["VOLUME"] + "/")
    assert {int(port) for port in image.told["EXPOSE"].split()} == set(PORTS.values())
    assert "RUN" not in image.told, "what is needed to build stays in the stage that builds"


@pytest.mark.behaviour("deploy.image")
def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)
    assert not any(fnmatch("deploy/secrets/tls.key", line) for line in allowed)


@pytest.mark.behaviour("deploy.image")
def test_hadolint_finds_nothing() -> None:
    run(tool("hadolint", "the Dockerfile, by hadolint"), DOCKERFILE)


@pytest.mark.behaviour("deploy.image")
@pytest.mark.proof
@pytest.mark.skipif(DEPTH == "sample", reason="it queries the package index")
def test_the_commands_of_the_image_build_what_runs(tmp_path: Path) -> None:
    """The first stage, with this machine in the place of its base."""
    source, places = (
        tmp_path / "src",
        {"/opt/soorma": "opt", "/tmp/wheel": "wheel", "/data": "data"},
    )
    source.mkdir()
    stages = [at for at, (word, _) in enumerate(instructions()) if word == "FROM"]
    for word, rest in instructions()[: stages[1]]:
        here = rest
        for place, name in places.items():
            here = here.replace(place, str(tmp_path / name))
        if word == "COPY":
            *files, target = here.split()
            _copy([ROOT / file for file in files], source / target)
        elif word == "RUN":
            _run_on_this_machine(here, source)
    said = subprocess.run(
        [tmp_path / "opt/bin/soorma", "version"], cwd=tmp_path, capture_output=True, text=True,
        check=True, env={"PATH": "/nowhere"}, timeout=SECONDS,
    ).stdout  # fmt: skip
    assert VERSION in said
    (packages,) = (tmp_path / "opt/lib").glob("python3.*/site-packages")
    assert not {"pip", "hatchling", "tomlkit"} & {path.name for path in packages.iterdir()}
    assert (tmp_path / "opt/healthcheck.py").exists()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def _run_on_this_machine(command: str, folder: Path) -> None:
    """Runs a command of the image with this Python, as whoever this is."""
    if os.geteuid() != 0:
        command = re.sub(r"--(owner|group) \d+", "", command)
    command = re.sub(r"^--mount=\S+ ", "", command)
    command = re.sub(r"\bpip --python", f"{sys.executable} -m pip --python", command)
    command = re.sub(r"^python\b", sys.executable, command)
    env = clean_environment(PIP_DISABLE_PIP_VERSION_CHECK="1")
    subprocess.run(["/bin/sh", "-ec", command], cwd=folder, check=True, timeout=400, env=env)


def _copy(files: list[Path], target: Path) -> None:
    for file in files:
        if file.is_dir():
            shutil.copytree(file, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder = (
                target if len(files) > 1 or target.is_dir() or not target.suffix else target.parent
            )
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder)


# --- The compose file ----------------------------------------------------------------------


@pytest.fixture
def composed() -> dict[str, Any]:
    return load()


@pytest.mark.behaviour("deploy.compose")
@pytest.mark.parametrize("name", load()["services"])
def test_each_service_can_do_little(composed: dict[str, Any], name: str) -> None:
    service = composed["services"][name]
    assert service["image"] == f"soorma:{VERSION}"
    assert service["user"] == Image().told["USER"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc"} & service.keys()
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert service["restart"] == "unless-stopped"
    assert [mount for mount in service["volumes"] if not mount.endswith(":ro")] == (
        ["data:/data"] if name == "platform" else []
    )


@pytest.mark.behaviour("deploy.compose")
def test_no_secret_is_in_the_environment(composed: dict[str, Any]) -> None:
    for service in composed["services"].values():
        for name, value in service["environment"].items():
            assert not re.search(r"soorma_[0-9a-f]{16}_", str(value))
            if re.search("KEY|SECRET|TOKEN|CERT", name):
                assert value.startswith("/run/secrets/"), name
                assert value.removeprefix("/run/secrets/") in service["secrets"], name


@pytest.mark.behaviour("deploy.compose")
def test_ports_are_those_of_the_platform_on_loopback(composed: dict[str, Any]) -> None:
    published = {name: one.get("ports", []) for name, one in composed["services"].items()}
    assert published.pop("platform") == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    assert not any(published.values())
    assert composed["networks"]["agents"] == {"internal": True}
    for name, service in composed["services"].items():
        assert service["networks"] == ["agents", *(["published"] if name == "platform" else [])]


@pytest.mark.behaviour("deploy.compose")
def test_agents_wait_for_a_healthy_platform(composed: dict[str, Any]) -> None:
    agents = {name: one for name, one in composed["services"].items() if name != "platform"}
    assert agents.keys() == {"planner", "worker", "coordinator"}
    for name, agent in agents.items():
        assert agent["depends_on"] == {"platform": {"condition": "service_healthy"}}
        assert agent["entrypoint"] == ["python", f"{name}.py"]
        (mounted,) = agent["volumes"]
        assert (DEPLOY / mounted.split(":")[0] / f"{name}.py").exists()


@pytest.mark.behaviour("deploy.compose")
def test_docker_compose_accepts_it() -> None:
    compose = module("compose", "compose.yaml, by docker compose") / "docker-compose"
    said = yaml.safe_load(run(compose, "--file", COMPOSE, "config"))
    assert said["services"].keys() == load()["services"].keys()


@pytest.mark.behaviour("deploy.compose")
def test_the_schema_of_compose_files_accepts_it() -> None:
    module("check_jsonschema", "compose.yaml, by the schema of the specification")
    run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE
    )


# --- Units ---------------------------------------------------------------------------------


PLATFORM_UNIT, AGENT_UNIT = "soorma.service", "soorma-agent@.service"
LOCKED = {
    "NoNewPrivileges": "true", "CapabilityBoundingSet": "", "ProtectSystem": "strict",
    "ProtectHome": "true", "PrivateTmp": "true", "PrivateDevices": "true",
    "ProtectKernelTunables": "true", "ProtectKernelModules": "true", "ProtectKernelLogs": "true",
    "ProtectControlGroups": "true", "RestrictNamespaces": "true", "LockPersonality": "true",
    "MemoryDenyWriteExecute": "true", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
}  # fmt: skip


@pytest.mark.behaviour("deploy.units")
@pytest.mark.parametrize("file", [PLATFORM_UNIT, AGENT_UNIT])
def test_a_unit_can_do_little(file: str) -> None:
    unit = Unit(UNITS / file)
    assert {name: unit[name] for name in LOCKED} == LOCKED
    assert unit.all("SystemCallFilter") == ["@system-service", "~@privileged @resources"]
    assert unit["LoadCredential"].partition(":")[2].startswith("/etc/soorma/")
    assert not [name for name in unit.environment if "soorma_" in unit.environment[name]]


@pytest.mark.behaviour("deploy.units")
@pytest.mark.parametrize("file", [PLATFORM_UNIT, AGENT_UNIT])
def test_systemd_finds_little_exposed(file: str, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", f"{file}, by systemd-analyze")
    unit = tmp_path / file.replace("@", "@i")
    text = (UNITS / file).read_text("utf-8")
    for program in ("soorma", "python"):
        text = text.replace(f"/opt/soorma/bin/{program} ", f"{sys.executable} ")
    unit.write_text(text)
    said = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=15", unit)
    assert "Overall exposure level" in said
    run(analyze, "verify", unit)


@pytest.mark.behaviour("deploy.units")
async def test_the_unit_starts_a_platform_and_stops_it_in_time(
    secrets: Path, tmp_path: Path
) -> None:
    """With its command, its credentials, its variables, and no memory to write to and execute."""
    unit, ports = Unit(UNITS / PLATFORM_UNIT), PortReservation()
    assert unit["WorkingDirectory"] == "/var/lib/" + unit["StateDirectory"]
    credential, _, source = unit["LoadCredential"].partition(":")
    assert Path(source).name in contents(secrets)
    folder = tmp_path / "soorma"
    folder.mkdir()
    command = unit["ExecStart"].replace("/var/lib", str(tmp_path))
    assert command.startswith("/opt/soorma/bin/soorma ")
    words = [sys.executable, "-m", "soorma.cli", *shlex.split(command)[1:]]
    environment = {
        name: value.replace(f"%d/{credential}", str(secrets / Path(source).name))
        for name, value in unit.environment.items()
    }

    def serve(**env: str) -> subprocess.Popen[bytes]:
        variables = {"SOORMA_PORT_OFFSET": str(ports.offset), **environment, **env}
        with (tmp_path / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", WITHOUT_EXECUTABLE_MEMORY, *words],
                cwd=folder,
                env=clean_environment(**variables),
                stdout=log,
                stderr=log,
            )

    serving = serve()
    try:
        await eventually(lambda: answer_of(f"http://127.0.0.1:{BLOCK[3] + ports.offset}"), 30)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(float(unit["TimeoutStopSec"])) == 0
        assert (folder / "soorma.db").exists()
        prevented = unit["RestartPreventExitStatus"].split()
        no_keys = {"SOORMA_BOOTSTRAP_KEYS_FILE": "", "SOORMA_DATABASE": ""}
        (folder / "empty").mkdir()
        for broken in ({"SOORMA_LEASE_SECONDS": "long"}, no_keys, {}):
            if broken is no_keys:
                words[words.index("--database") + 1] = str(folder / "empty" / "soorma.db")
            elif not broken:
                words[words.index("--database") + 1] = str(folder / "soorma.db")
                make_older(folder / "soorma.db")
            serving = serve(**broken)
            assert str(serving.wait(30)) in prevented, (tmp_path / "log").read_text("utf-8")
    finally:
        serving.kill()
        serving.wait()
        ports.close()


WITHOUT_EXECUTABLE_MEMORY = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, of Linux 6.3; as MemoryDenyWriteExecute=
os.execv(sys.argv[1], sys.argv[1:])
"""


def make_older(database: Path) -> None:
    """Makes a record as a Soorma with one migration less leaves it, as far as a start can see."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA "
        "user_version = 1')"
    )
    subprocess.run([sys.executable, "-c", program, os.fspath(database)], check=True, timeout=30)


@pytest.mark.behaviour("deploy.units")
def test_the_user_of_the_unit_is_made(tmp_path: Path) -> None:
    name = Unit(UNITS / PLATFORM_UNIT)["User"]
    assert (UNITS / "soorma.sysusers").read_text("utf-8").splitlines()[-1].split()[:2] == [
        "u",
        name,
    ]
    make = tool("systemd-sysusers", "the user, by systemd-sysusers")
    (tmp_path / "etc").mkdir()
    run(make, f"--root={tmp_path}", UNITS / "soorma.sysusers")
    assert f"\n{name}:" in "\n" + (tmp_path / "etc/passwd").read_text("utf-8")


# --- Kubernetes ----------------------------------------------------------------------------


def manifest(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((MANIFESTS / file).read_text("utf-8"))
    return found


@pytest.mark.behaviour("deploy.kubernetes")
@pytest.mark.parametrize("file", ["statefulset.yaml", "agent.yaml"])
def test_each_pod_can_do_little(file: str) -> None:
    pod = manifest(file)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user == Image().told["USER"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    assert container["image"].endswith(f":{VERSION}")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    secret = [mounts[name] for name, volume in volumes.items() if "secret" in volume]
    for variable in container["env"]:
        if re.search("KEY|CERT", variable["name"]):
            assert any(variable["value"].startswith(f"{place}/") for place in secret), variable


@pytest.mark.behaviour("deploy.kubernetes")
def test_there_is_one_platform_with_one_volume() -> None:
    stateful, service = manifest("statefulset.yaml"), manifest("service.yaml")
    assert stateful["spec"]["replicas"] == 1
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == PORTS
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == PORTS
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == stateful["spec"]["selector"]["matchLabels"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == Image().told["VOLUME"]
    hosts = {one["name"]: one.get("value") for one in container["env"]}["SOORMA_PUBLIC_HOSTS"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"] == "/health"
        assert asked["httpHeaders"][0]["value"] in hosts.split(",")


@pytest.mark.behaviour("deploy.kubernetes")
def test_kustomize_names_what_is_there() -> None:
    told = manifest("kustomization.yaml")
    assert all((MANIFESTS / file).exists() for file in told["resources"])
    (image,) = told["images"]
    assert image["newTag"] == VERSION


@pytest.mark.behaviour("deploy.kubernetes")
@pytest.mark.parametrize("file", ["statefulset.yaml", "service.yaml", "agent.yaml"])
def test_the_schema_of_kubernetes_accepts_it(file: str) -> None:
    module("kubernetes_validate", f"{file}, by the schema of Kubernetes")
    run(tool("kubernetes-validate", file), "--strict", MANIFESTS / file)


# --- All of it -----------------------------------------------------------------------------


def namespaces() -> tuple[str, ...]:
    """What gives a program namespaces of its own, in which it may mount, and make networks.

    Skips the test, and says so, where this machine does not permit that.
    """
    found = ("unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
             "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")  # fmt: skip
    tried = "mount -t tmpfs none /run && ip link add one type bridge && ip netns add two"
    needed = ("unshare", "nsenter", "setpriv", "mount", "ip")
    refused = "it is not Linux, or lacks one of " + ", ".join(needed)
    if sys.platform == "linux" and all(map(shutil.which, needed)):
        done = subprocess.run(
            [*found, "sh", "-c", tried],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        if done.returncode == 0:
            return found
        refused = done.stderr.strip()
    pytest.skip(
        f"NOT CHECKED: compose.yaml in namespaces; this machine does not permit it: {refused}"
    )


@pytest.mark.behaviour("deploy.compose", "deploy.image")
@pytest.mark.parametrize("how", ["in namespaces", "on loopback"])
def test_the_services_do_the_work_of_example_05(
    secrets: Path, tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    ports = PortReservation()
    isolated = namespaces() if how == "in namespaces" else ()
    plain = [] if isolated else ["--plain", str(ports.offset)]
    program = Path(__file__).with_name("containers.py")
    try:
        done = subprocess.run(
            [*isolated, sys.executable, program, *plain, secrets, tmp_path],
            env=clean_environment(), cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=100,
        )  # fmt: skip
    finally:
        ports.close()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    record_property("ran", what_ran(report, how))
    for said in (report["said"], report["said after a kill"]):
        assert "Workflow completed" in said
        assert "6. workflow.completed" in said
    assert [key["name"] for key in report["keys"]["keys"]] == ["operator", "app", "agents"]
    assert report["backup"]["plans"] == 1
    assert set(report["exit codes"].values()) == {0}
    check_usage(report["used"])
    if isolated:
        check_confinement(report)


def what_ran(report: dict[str, Any], how: str) -> str:
    """Says which part of compose.yaml this machine could run."""
    shared = "" if report["tls"] or how != "in namespaces" else ", all in one network"
    tls = "over TLS" if report["tls"] else "WITHOUT TLS, which this platform does not serve"
    user = report.get("probe of worker", {}).get("user", os.geteuid())
    return (
        f"compose.yaml ran {how}{shared}, {tls}, as the user {user}. NOT RUN: the image itself, "
        "and the limits of memory and processes (what was used is below half of them)"
    )


def check_usage(used: dict[str, dict[str, int]]) -> None:
    for name, service in load()["services"].items():
        size = (
            int(service["mem_limit"][:-1]) * {"m": 1 << 20, "g": 1 << 30}[service["mem_limit"][-1]]
        )
        assert used[name]["memory"] < size / 2
        assert used[name]["tasks"] < service["pids_limit"] / 2


def check_confinement(report: dict[str, Any]) -> None:
    told = load()
    for name in ("platform", "worker"):
        probe = report[f"probe of {name}"]
        assert set(probe["privileges"].values()) == {"0" * 16, "1"}
        assert probe["secrets"] == sorted(told["services"][name]["secrets"])
        writable = {path for path, answer in probe["writes"].items() if answer == "yes"}
        assert writable == {"/tmp/probe"} | ({"/data/probe"} if name == "platform" else set())
        if os.geteuid() == 0:
            assert probe["user"] == 10001
    assert report["probe of worker"]["outside"] == "Network is unreachable"
