"""deploy/compose.yaml and deploy/Dockerfile, as far as it takes to run their commands."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[4]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
DOCKERFILE = DEPLOY / "Dockerfile"


def instructions(dockerfile: Path = DOCKERFILE) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, with their continued lines joined, and the rest of each."""
    lines = [line for line in dockerfile.read_text("utf-8").splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined) if word
    ]


class Image:
    """The last stage of the Dockerfile."""

    def __init__(self) -> None:
        told = instructions()
        last = max(at for at, (word, _) in enumerate(told) if word == "FROM")
        self.told = dict(told[last:])
        self.stages = [rest for word, rest in told if word == "FROM"]

    def words(self, instruction: str) -> list[str]:
        """The words of an instruction in the exec form."""
        found: list[str] = json.loads(self.told[instruction])
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets, without PATH, which extends that of the base."""
        pairs = [word.partition("=") for word in shlex.split(self.told["ENV"])]
        return {name: value for name, _, value in pairs if name != "PATH"}

    @property
    def health_command(self) -> list[str]:
        """The command of HEALTHCHECK."""
        found: list[str] = json.loads(self.told["HEALTHCHECK"].partition("CMD ")[2])
        return found


@dataclass
class Service:
    """A service of the compose file, with what the image says of it."""

    name: str
    argv: list[str]
    folder: str
    environment: dict[str, str]
    networks: list[str]
    user: str
    stop_seconds: float
    mounts: dict[str, Path] = field(default_factory=dict)
    """read-only files and folders, by their place in the container"""
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


def load(file: Path = COMPOSE) -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    found: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return found


def services(secrets: Path) -> list[Service]:
    """The services, the platform first; their secrets are those of this folder."""
    told, image = load(), Image()
    return [_service(name, each, told, image, secrets) for name, each in told["services"].items()]


def _service(
    name: str, told: dict[str, Any], file: dict[str, Any], image: Image, secrets: Path
) -> Service:
    entrypoint = told.get("entrypoint", image.words("ENTRYPOINT"))
    command = told.get("command", [] if "entrypoint" in told else image.words("CMD"))
    made = Service(
        name,
        [*entrypoint, *command],
        told.get("working_dir", image.told["WORKDIR"]),
        {**image.environment, **{key: str(value) for key, value in told["environment"].items()}},
        list(told["networks"]),
        str(told["user"]),
        float(told["stop_grace_period"].removesuffix("s")),
        ports=[int(each.rpartition(":")[2]) for each in told.get("ports", [])],
    )
    for volume in told.get("volumes", []):
        source, place = volume.split(":")[:2]
        if source in file["volumes"]:
            made.volumes.append(place)
        else:
            made.mounts[place] = (DEPLOY / source).resolve()
    for secret in told.get("secrets", []):
        made.mounts[f"/run/secrets/{secret}"] = secrets / Path(file["secrets"][secret]["file"]).name
    return made
