"""What the benchmarks share: where things are, and under which conditions they ran."""

import os
import pathlib
import platform

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("HIVEMETAL_BIN", ROOT / "build" / "release" / "bin"))
PYTHON = ROOT / ".venv" / "bin" / "python"


class Missing(Exception):
    """Something that the benchmark needs is not there; the text says what to do."""


def need(path: pathlib.Path, how: str) -> pathlib.Path:
    if not path.exists():
        raise Missing(f"{path} is missing: {how}")
    return path


def binary(name: str) -> pathlib.Path:
    return need(BIN / name, f"cmake --preset release && cmake --build --preset release --target {name}")


def python() -> pathlib.Path:
    return need(PYTHON, "scripts/setup makes the virtual environment")


def cpu_model() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def conditions() -> dict:
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2),
            "kernel": platform.release()}
