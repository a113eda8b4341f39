#!/usr/bin/env python3
"""Builds everything and runs every test that this machine can run.

    ./check                    all of it
    ./check unit               one stage, or several: style unit fuzz tsan interop e2e bench demo
    ./check --list             the stages and what each needs
    ./check unit -k Partition  only gtest cases (or pytest tests) whose name contains the word

Closes with `N passed, N failed, N skipped`, after naming each failure and the reason of each skip, and exits 1 if
anything failed. Logs and machine-readable reports are left in build/check/.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "check"
JOBS = os.cpu_count() or 2

STAGES = {
    "style": "layers and clang-format; seconds",
    "unit": "dev build (ASan, UBSan), every *_test.cpp, and the simulations in tests/sim",
    "fuzz": "dev build, every *_fuzz.cpp for some seconds",
    "tsan": "tsan build, the tests of the modules that run threads",
    "interop": "release build; real Hivemind processes over real p2pd",
    "e2e": "dev build; real daemons, workers, faults",
    "bench": "release build; every benchmark binary runs once",
    "demo": "release build; ./demo --json with few epochs, and Ctrl-C",
}
TSAN_TESTS = ["base_test", "sim_test", "p2p_test"]


@dataclasses.dataclass
class Report:
    """What was run: names of passed tests, failed ones with a text, skipped ones with their reason."""

    passed: int = 0
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(command: list, log: str, timeout: int, env: dict | None = None) -> tuple[int, str]:
    """Runs a command with its output in build/check/LOG.log; returns exit status (124: timed out) and output."""
    path = OUT / f"{log}.log"
    with path.open("w") as file:
        try:
            status = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                    timeout=timeout, env={**os.environ, **(env or {})}).returncode
        except subprocess.TimeoutExpired:
            status = 124
    return status, path.read_text(errors="replace")


def tail(text: str, lines: int = 25) -> str:
    return "\n".join(text.splitlines()[-lines:])


def single(name: str, command: list, timeout: int, env: dict | None = None) -> Report:
    """One command that is one test."""
    status, output = run(command, name.replace("/", "_"), timeout, env)
    return Report(passed=1) if status == 0 else Report(failed=[(name, f"exit status {status}\n{tail(output)}")])


def build(preset: str, targets: list[str]) -> Report:
    begin = time.monotonic()
    print(f"build {preset}: {' '.join(targets) or 'all'}", flush=True)
    status, output = run(["cmake", "--preset", preset], f"configure-{preset}", 300)
    if status == 0:
        status, output = run(["cmake", "--build", "--preset", preset, *(["--target", *targets] if targets else [])],
                             f"build-{preset}", 3600)
    print(f"build {preset}: {'done' if status == 0 else 'FAILED'}, {time.monotonic() - begin:.0f} s", flush=True)
    if status == 0:
        return Report()
    errors = [line for line in output.splitlines() if "error:" in line or "FAILED" in line]
    return Report(failed=[(f"build {preset}", "\n".join(errors[:20]) or tail(output))])


def run_gtest(preset: str, binary: pathlib.Path, word: str | None) -> Report:
    name = f"{preset}/{binary.name}"
    result = OUT / f"{preset}-{binary.name}.json"
    result.unlink(missing_ok=True)
    command = [binary, f"--gtest_output=json:{result}"] + ([f"--gtest_filter=*{word}*"] if word else [])
    status, output = run(command, f"{preset}-{binary.name}", 900)
    report = Report()
    if not result.exists():
        return Report(failed=[(name, f"exit status {status}, no report\n{tail(output)}")])
    for suite in json.loads(result.read_text())["testsuites"]:
        for case in suite["testsuite"]:
            title = f"{name} {suite['name']}.{case['name']}"
            if case.get("failures"):
                report.failed.append((title, case["failures"][0]["failure"]))
            elif case["result"] == "SKIPPED":
                report.skipped.append((title, skip_reason(output, f"{suite['name']}.{case['name']}")))
            elif case["result"] == "COMPLETED":
                report.passed += 1
    if status != 0 and not report.failed:  # a sanitizer's report at the end, a crash
        report.failed.append((name, f"exit status {status}\n{tail(output)}"))
    return report


def skip_reason(output: str, case: str) -> str:
    match = re.search(rf"\[ RUN      \] {re.escape(case)}\n(.*?)\[  SKIPPED \]", output, re.S)
    lines = [line.strip() for line in (match[1] if match else "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def run_gtests(preset: str, names: list[str] | None, word: str | None) -> Report:
    folder = ROOT / "build" / preset
    binaries = sorted([*folder.glob("src/*_test"), *folder.glob("tests/sim/*_scenarios")], key=lambda path: path.name)
    binaries = [path for path in binaries if names is None or path.name in names]
    report = Report()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for one in pool.map(lambda binary: run_gtest(preset, binary, word), binaries):
            report.add(one)
    return report


def run_pytest(folder: str, preset: str, word: str | None, extra: list[str] = ()) -> Report:
    result = OUT / f"pytest-{folder.replace('/', '-')}.xml"
    result.unlink(missing_ok=True)
    command = [ROOT / ".venv/bin/python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--timeout=300",
               f"--junitxml={result}", *extra, folder] + (["-k", word] if word else [])
    status, output = run(command, f"pytest-{folder.replace('/', '-')}", 1800,
                         {"HIVEMETAL_BIN": str(ROOT / "build" / preset / "bin"), "OMP_NUM_THREADS": "1"})
    if not result.exists():
        return Report(failed=[(folder, f"exit status {status}, no report\n{tail(output)}")])
    report = Report()
    for case in ElementTree.parse(result).getroot().iter("testcase"):
        title = f"{case.get('classname')}.{case.get('name')}"
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            report.failed.append((title, tail(problem.text or problem.get("message") or "", 40)))
        elif (skip := case.find("skipped")) is not None:
            report.skipped.append((title, skip.get("message") or "no reason given"))
        else:
            report.passed += 1
    return report


def style() -> Report:
    report = single("layers", ["python3", "scripts/check_layers.py"], 60)
    sources = [str(path) for folder in ("src", "apps") for path in sorted((ROOT / folder).rglob("*"))
               if path.suffix in {".h", ".cpp"}]
    report.add(single("clang-format", ["clang-format-19", "--dry-run", "--Werror", *sources], 300))
    return report


def unit(word: str | None) -> Report:
    report = build("dev", [])
    return report if report.failed else run_gtests("dev", None, word)


def fuzz() -> Report:
    report = build("dev", [])
    if report.failed:
        return report
    fuzzers = sorted((ROOT / "build/dev/src").glob("*_fuzz"))
    command = lambda path: [path, "-max_total_time=5", "-timeout=5", "-rss_limit_mb=2048", "-verbosity=0",
                            "-max_len=65536", f"-artifact_prefix={OUT}/"]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for one in pool.map(lambda path: single(f"fuzz/{path.name}", command(path), 120), fuzzers):
            report.add(one)
    return report


def tsan(word: str | None) -> Report:
    report = build("tsan", TSAN_TESTS)
    return report if report.failed else run_gtests("tsan", TSAN_TESTS, word)


def interop(word: str | None) -> Report:
    report = build("release", [])
    return report if report.failed else run_pytest("tests/interop", "release", word)


def e2e(word: str | None) -> Report:
    report = build("dev", [])
    return report if report.failed else run_pytest("tests/e2e", "dev", word, ["--ignore=tests/e2e/test_demo.py"])


def bench() -> Report:
    report = build("release", [])
    if report.failed:
        return report
    for path in sorted((ROOT / "build/release/src").glob("*_bench")):
        report.add(single(f"bench/{path.name}", [path, "--benchmark_min_time=0.01"], 300))
    return report


def demo(word: str | None) -> Report:
    report = build("release", [])
    return report if report.failed else run_pytest("tests/e2e/test_demo.py", "release", word)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="stage", help=", ".join(STAGES))
    parser.add_argument("-k", dest="word", help="only tests whose name contains WORD")
    parser.add_argument("--list", action="store_true", help="list the stages")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:8} {text}" for name, text in STAGES.items()))
        return 0
    unknown = [name for name in arguments.stages if name not in STAGES]
    if unknown:
        parser.error(f"unknown stage '{unknown[0]}'; the stages are {', '.join(STAGES)}")

    OUT.mkdir(parents=True, exist_ok=True)
    word = arguments.word
    runs = {"style": style, "unit": lambda: unit(word), "fuzz": fuzz, "tsan": lambda: tsan(word),
            "interop": lambda: interop(word), "e2e": lambda: e2e(word), "bench": bench, "demo": lambda: demo(word)}
    total = Report()
    for name in arguments.stages or STAGES:
        begin = time.monotonic()
        report = runs[name]()
        total.add(report)
        print(f"{name}: {report.passed} passed, {len(report.failed)} failed, {len(report.skipped)} skipped in "
              f"{time.monotonic() - begin:.0f} s", flush=True)
    for title, reason in total.skipped:
        print(f"SKIPPED {title}: {reason}")
    for title, text in total.failed:
        print(f"\nFAILED {title}\n{text}")
    print(f"\n{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    if shutil.which("cmake") is None:
        sys.exit("cmake is missing; run scripts/setup first")
    sys.exit(main())
