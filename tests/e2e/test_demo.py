"""./demo as a stranger runs it: what it says at the end, and that it leaves nothing behind, whenever it is stopped.

With HIVEMETAL_PROGRAM it tests that build's hivemetal, instead of build/release, which ./demo builds first.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"accuracy", "accuracy_alone", "workers", "nodes", "rounds", "samples", "seconds", "bytes_sent",
        "recovered_after_s", "checkpoint"}
PROGRAM = ["--program", os.environ["HIVEMETAL_PROGRAM"]] if "HIVEMETAL_PROGRAM" in os.environ else []


sys.path.insert(0, str(ROOT / "scripts"))
from demo_swarm import node_tag

seen_nodes = set()  # folders of demos' nodes, while there were any


def traces():
    """What a demo leaves while it runs: its folders, processes, cgroups, and dead sockets of its workers."""
    found = {str(path) for path in Path("/tmp").glob("hivemetal-demo-*")}
    seen_nodes.update(Path("/tmp").glob("hivemetal-demo-*/n*"))
    tags = {node_tag(folder) for folder in seen_nodes}
    bound = set(re.findall(r"(/\S+)$", Path("/proc/net/unix").read_text(), re.M))
    for path in Path("/tmp").glob("hivemind-*"):
        try:
            if str(path) not in bound and path.lstat().st_uid != 0:
                found.add(str(path))
        except OSError:
            pass
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and b"/tmp/hivemetal-demo-" in (
                    Path(f"/proc/{name}/cmdline").read_bytes() + Path(f"/proc/{name}/environ").read_bytes()):
                found.add(f"process {name}")
        except OSError:
            pass
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(folder) == "hivemetal":
            found.update(os.path.join(folder, name) for name in tags.intersection(folders))
    for path in Path("/run/hivemetal/uids").glob("[0-9]*"):
        try:
            found.update(str(path) for folder in seen_nodes if path.read_text().startswith(f"{folder}\n"))
        except OSError:
            pass
    return found


@pytest.fixture
def spotless():
    before = traces()
    yield
    deadline = time.monotonic() + 10  # the kernel takes a moment to let go of a cgroup
    while traces() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert traces() - before == set()


class Demo:
    """A running ./demo with what it has said so far."""

    def __init__(self, *arguments):
        # A group of its own, so that Ctrl-C can be sent as a terminal does: to all of it.
        self.process = subprocess.Popen([ROOT / "demo", *PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, start_new_session=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def wait_for(self, pattern, seconds=700):
        deadline = time.monotonic() + seconds
        while not any(re.search(pattern, line) for line in list(self.lines)):
            assert time.monotonic() < deadline and (self.process.poll() is None or self.reader.is_alive()), self.text()
            time.sleep(0.1)

    def end(self, seconds):
        code = self.process.wait(seconds)
        self.reader.join(10)
        return code

    def text(self):
        return "".join(self.lines[-60:])


@pytest.fixture
def start():
    started = []

    def starter(*arguments):
        started.append(Demo(*arguments))
        return started[-1]

    yield starter
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(60)


@pytest.mark.timeout(900)
def test_the_last_line_tells_how_it_went(start, spotless):
    demo = start("--json", "--epochs", "12")
    assert demo.end(800) == 0, demo.text()
    facts = json.loads(demo.lines[-1])
    assert KEYS <= facts.keys()
    assert (facts["workers"], facts["nodes"]) == (4, 4)
    assert facts["accuracy"] > 0.7 > 0.5 > facts["accuracy_alone"]
    assert 6 <= facts["rounds"] <= 13 and facts["samples"] >= 12 * 8192 / 2 and facts["bytes_sent"] > 0
    assert facts["recovered_after_s"] > 0
    assert Path(facts["checkpoint"]).is_file()
    assert any("kill -9 of worker" in line for line in demo.lines)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["Hivemetal: ", "nodes are up", "submitted ", "runs on", "epoch 2/", "kill -9"])
def test_ctrl_c_leaves_nothing_behind(start, spotless, moment):
    demo = start("--epochs", "8")
    demo.wait_for(moment)
    if moment != "Hivemetal: ":
        assert traces()  # or this would find nothing afterwards, whatever is left
    begin = time.monotonic()
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end(120) == 130, demo.text()
    assert time.monotonic() - begin < 60


@pytest.mark.timeout(900)
def test_a_swarm_that_was_kept_can_be_looked_at_and_stopped(start, spotless):
    demo = start("--keep", "--no-kill", "--epochs", "2", "--nodes", "2", "--workers", "2")
    assert demo.end(600) == 0, demo.text()
    listed = next(line for line in demo.lines if "node list" in line).split("#")[0]
    answer = subprocess.run(listed, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0 and "n2" in answer.stdout
    stopped = start("--stop")
    assert stopped.end(60) == 0, stopped.text()


def test_wrong_options_are_refused_before_anything_starts(start, spotless):
    demo = start("--help")
    assert demo.end(20) == 0
    program = subprocess.run(["/usr/bin/python3", ROOT / "scripts" / "demo.py", "--workers", "0"], capture_output=True, text=True, timeout=20)
    assert program.returncode == 2 and "--workers must be from 1 to 64" in program.stderr
