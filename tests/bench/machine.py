"""The machine and the versions that absolute figures belong to."""

import os
import platform
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa

CPU_FACTS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the run was made; loads are the averages over 1, 5 and 15 minutes before anything was started."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    load: tuple[float, float, float]
    python: str
    postgresql: str
    temporal: str

    @property
    def sentence(self) -> str:
        """Name the machine in one line."""
        load = " ".join(f"{each:.2f}" for each in self.load)
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}, load before {load}; "
            f"Python {self.python}, PostgreSQL {self.postgresql}, {self.temporal}"
        )


def describe(connection: sa.Connection, *, load: tuple[float, float, float]) -> Machine:
    """Describe this machine and the servers that the run uses."""
    version = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "temporal", "--version"],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        capture_output=True,
        text=True,
        check=True,
    )
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        load=load,
        python=platform.python_version(),
        postgresql=str(connection.execute(sa.text("show server_version")).scalar_one()),
        temporal=version.stdout.strip(),
    )


def _cpu() -> str:
    if CPU_FACTS.exists():
        for line in CPU_FACTS.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
