"""`soorma init`: projects whose tests pass at once, and that run as their README says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from cli_shell import SECONDS, SOORMA, Shell, read_until
from platform_process import clean_environment

from soorma.cli import init
from soorma.cli.dev import services
from soorma.cli.exits import CommandError, Exit

ROOT = Path(__file__).parents[2]
CHANGES = {
    "worker": ('state.increment("words", words)', 'state.increment("words", 1)'),
    "workflow": ("await state.record_action(", "print("),
}
"""Changes to the workers that fail no attempt: a failed one is retried later and later."""
KINDS = [kind.value for kind in init.Kind]
LONGEST = "a" + "b" * (init.LONGEST_NAME - 1)


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """With the commands of the environment on its PATH, as after `. .venv/bin/activate`."""
    own = str(Path(sys.executable).parent)
    shell.env["PATH"] = os.pathsep.join([own, shell.env["PATH"]])
    shell.env |= services.variables("127.0.0.1", services.ports_at(shell.offset))
    return shell


def made(shell: Shell, kind: str, name: str = "my-project") -> Path:
    shell.soorma("init", name, "--type", kind)
    return shell.folder / name


def python(
    project: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=env or clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def commands_of(project: Path, section: str) -> list[str]:
    """The commands in a section of the project's README."""
    text = (
        (project / "README.md")
        .read_text("utf-8")
        .partition(f"\n## {section}\n")[2]
        .partition("\n## ")[0]
    )
    return [
        line
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
        for line in block.splitlines()
    ]


# --- What is made --------------------------------------------------------------------------


@pytest.mark.behaviour("init.runs")
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_test_passes_at_once(shell: Shell, kind: str) -> None:
    project = made(shell, kind)
    assert commands_of(project, "Test") == ["python -m pytest"]
    done = python(project, "-m", "pytest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 2 passed" in done.stdout


@pytest.mark.behaviour("init.runs")
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_test_notices_a_change(shell: Shell, kind: str) -> None:
    project = made(shell, kind)
    worker = project / "my_project" / "worker.py"
    worker.write_text(worker.read_text().replace(*CHANGES[kind], 1))
    done = python(project, "-m", "pytest", "-x")
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.behaviour("init.runs")
def test_a_worker_runs_as_its_readme_says(shell: Shell) -> None:
    project = made(shell, "worker")
    start, worker, activate, client = commands_of(project, "Run")
    assert activate == ". .venv/bin/activate"
    shell.folder = project

    assert start == "soorma dev --build"
    shell.soorma(*start.split()[1:])
    # not the shell, which would leave it behind
    agent = shell.spawn("-c", f"exec {worker}", program=["/bin/sh"])
    for total in (3, 6):
        done = subprocess.run(
            client,
            shell=True,
            cwd=project,
            env=shell.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stdout) == (0, f"3 words, {total} so far\n"), done.stderr
    assert agent.poll() is None


@pytest.mark.behaviour("init.runs")
def test_a_workflow_runs_as_its_readme_says(shell: Shell) -> None:
    project = made(shell, "workflow")
    start, agents, activate, client = commands_of(project, "Run")
    assert activate == ". .venv/bin/activate"
    shell.folder = project

    shell.soorma(*start.split()[1:])
    assert agents.startswith("soorma run ")
    running = shell.spawn("-m", "my_project", program=["python"])  # short for it
    read_until(running, "Ctrl+C ends them")
    done = subprocess.run(
        client,
        shell=True,
        cwd=project,
        env=shell.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{task}: {task} for Write a blog post" for task in ("research", "draft", "review")
    ]

    running.send_signal(signal.SIGTERM)
    assert running.wait(SECONDS) == 0
    groups = json.loads(shell.soorma("events", "groups", "--json").stdout)["groups"]
    assert len(groups) == 3
    assert [group["replicas"] for group in groups] == [[], [], []], "the agents have ended with it"


@pytest.mark.behaviour("init.whole")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a", "my-project", LONGEST])
def test_its_code_is_clean(shell: Shell, kind: str, name: str) -> None:
    project = made(shell, kind, name)
    for arguments in (
        ["check", "--select", "E,F,I,W,B,UP,SIM,ANN,ASYNC,RUF"],
        ["format", "--check"],
    ):
        done = python(project, "-m", "ruff", *arguments, "--no-cache", ".")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.behaviour("init.whole")
@pytest.mark.parametrize("kind", KINDS)
def test_it_never_makes_pip_fetch_the_foreign_package(shell: Shell, kind: str) -> None:
    project = made(shell, kind, "word.counter_2")
    text = (project / "pyproject.toml").read_text("utf-8")
    found = tomllib.loads(text)
    assert found["project"]["name"] == "word.counter_2"
    assert found["project"]["dependencies"] == []
    groups = json.dumps(found["dependency-groups"]) + json.dumps(found["build-system"])
    assert "soorma" not in groups
    assert "belongs to somebody else" in text
    assert not [
        line
        for line in commands_of(project, "Install")
        if re.search(r"install .*soorma-core", line)
    ]
    assert "pip install -e SOORMA/sdk/python" in commands_of(project, "Install")
    assert (project / "word_counter_2" / "worker.py").exists()


@pytest.mark.behaviour("init.whole")
@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_is_filled_in(shell: Shell, kind: str) -> None:
    project = made(shell, kind)
    files = [path for path in project.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {
        "README.md",
        "pyproject.toml",
        ".gitignore",
        "__init__.py",
        "client.py",
    }
    for path in files:
        text = path.read_text("utf-8")
        assert text.endswith("\n"), path
        assert "$" not in text, path
        assert path.suffix != init.SUFFIX
    named = re.findall(
        r"^\| `([^`]+)` \|", (project / "README.md").read_text("utf-8"), flags=re.MULTILINE
    )
    assert named
    assert [one for one in named if not (project / one).exists()] == []


@pytest.mark.behaviour("init.whole")
def test_the_templates_are_in_the_wheel(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/templates/" in name}
    source = ROOT / "src"
    there = {
        str(path.relative_to(source))
        for path in (source / "soorma/cli/templates").rglob("*")
        if path.is_file()
    }
    assert len(there) > 10
    assert inside == there


# --- The command ---------------------------------------------------------------------------


@pytest.mark.behaviour("init.runs")
def test_what_it_says(shell: Shell) -> None:
    said = shell.soorma("init", "word-counter").stdout
    assert f"Made {shell.folder / 'word-counter'}" in said
    for line in (
        "cd word-counter",
        "python -m pytest",
        "soorma dev --build",
        "soorma run word_counter.worker",
    ):
        assert f"  {line}\n" in said
    found = json.loads(shell.soorma("init", "other", "--type", "workflow", "--json").stdout)
    assert found["package"] == "other"
    assert found["type"] == "workflow"
    there = [
        str(path.relative_to(found["folder"]))
        for path in Path(found["folder"]).rglob("*")
        if path.is_file()
    ]
    assert sorted(there) == found["files"]


@pytest.mark.behaviour("init.runs")
def test_without_pytest_it_says_to_install_it_first(shell: Shell, tmp_path: Path) -> None:
    assert "pip install" not in shell.soorma("init", "one").stdout
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pytest'] = None\n")
    said = shell.soorma("init", "two", PYTHONPATH=str(tmp_path)).stdout
    assert "  cd two\n  pip install pytest\n  python -m pytest\n" in said


@pytest.mark.behaviour("init.refused")
@pytest.mark.parametrize(
    "name", ["", "Word", "1st", "-x", "a--b", "a-", "a b", "a/b", "..", "über", "a\nb",
             LONGEST + "c", "class", "match", "json", "soorma", "pytest", "soorma-platform",
             "tests"]
)  # fmt: skip
def test_names_that_would_not_work(name: str) -> None:
    with pytest.raises(CommandError) as refused:
        init.package_of(name)
    assert refused.value.exit_code is Exit.USAGE
    assert "\n" not in refused.value.message


@pytest.mark.behaviour("init.refused")
def test_a_bad_name_leaves_nothing(shell: Shell) -> None:
    assert "would hide the module json" in shell.soorma("init", "json", exits=Exit.USAGE).stderr
    assert (
        "'worker', 'workflow'"
        in shell.soorma("init", "a", "--type", "other", exits=Exit.USAGE).stderr
    )
    assert list(shell.folder.iterdir()) == []


@pytest.mark.behaviour("init.refused")
def test_a_folder_in_use_is_left_as_it_is(shell: Shell) -> None:
    project = shell.folder / "mine"
    project.mkdir()
    shell.soorma("init", "mine")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert before
    assert (
        "something in it"
        in shell.soorma("init", "mine", "--type", "workflow", exits=Exit.USAGE).stderr
    )
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before

    (shell.folder / "file").write_text("mine")
    assert "no folder" in shell.soorma("init", "file", exits=Exit.USAGE).stderr
    (shell.folder / "link").symlink_to("nowhere")
    assert "no folder" in shell.soorma("init", "link", exits=Exit.USAGE).stderr
    assert {path.name for path in shell.folder.iterdir()} == {"mine", "file", "link"}


@pytest.mark.behaviour("init.refused")
def test_two_at_once_make_one_project(shell: Shell) -> None:
    both = [shell.spawn("init", "one", "--type", kind, program=SOORMA) for kind in KINDS]
    said = [child.communicate(timeout=SECONDS)[0] for child in both]
    assert sorted(child.returncode for child in both) == [Exit.OK, Exit.USAGE], said
    assert [path.name for path in shell.folder.iterdir()] == ["one"]
    (tests,) = (shell.folder / "one" / "tests").iterdir()
    assert (tests.name == "test_worker.py") is (both[0].returncode == Exit.OK)


@pytest.mark.behaviour("init.refused")
def test_a_failure_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(CommandError, match="No space left") as failed:
        init.init("mine")
    assert failed.value.exit_code is Exit.UNWRITABLE
    assert list(tmp_path.iterdir()) == []
