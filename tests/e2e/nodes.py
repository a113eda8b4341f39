"""Real nodes on loopback for tests: daemons with their directories, and everything they may leave behind."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("HIVEMETAL_BIN", ROOT / "build/dev/bin")).resolve()
PROGRAM = BIN / "hivemetal"
OVER = ("finished", "failed", "stopped")


def wait_until(condition, seconds, what="", step=0.05):
    """What `condition` returns as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(step)


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def environment(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def processes_of(folder):
    """Ids of the processes that name the folder in their command line or environment; zombies are gone already."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            pid = int(entry.name)
            if str(folder) in command_line(pid) + environment(pid):
                found.append(pid)
    return found


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=20):
        super().__init__("node", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    """One directory, and the daemon that runs in it from start() to stop() or kill()."""

    def __init__(self, folder, name, settings=""):
        self.folder, self.name, self.process = pathlib.Path(folder), name, None
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(f"name: {name}\n{settings}")

    def cli(self, *arguments, code=0, timeout=60, text=False):
        """Runs `hivemetal ARGUMENTS --dir …`; returns the JSON it prints, or with `text` what it would show."""
        done = subprocess.run([PROGRAM, *map(str, arguments), "--dir", self.folder, *([] if text else ["--json"])],
                              capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        assert "Sanitizer" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        if text:
            return done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return lines[0] if len(lines) == 1 else lines

    def spawn(self, *arguments):
        """A command that goes on, with its output in a pipe."""
        return subprocess.Popen([PROGRAM, *map(str, arguments), "--dir", self.folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                stdin=subprocess.DEVNULL, text=True)

    def start(self, *options, seconds=40):
        self.ready = None
        log = open(self.folder / "node.out", "ab")
        self.process = subprocess.Popen([PROGRAM, "node", "run", "--dir", self.folder, "--json", *options], stdout=subprocess.PIPE, stderr=log,
                                        stdin=subprocess.DEVNULL, start_new_session=True, text=True)
        log.close()
        deadline = time.monotonic() + seconds
        line = self.process.stdout.readline()
        assert line and json.loads(line).get("ready"), f"node {self.name} is not ready: {line}{self.output()}"
        assert time.monotonic() < deadline, f"node {self.name} took more than {seconds} s"
        self.ready = json.loads(line)
        return self

    def output(self):
        path = self.folder / "node.out"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def get(self, path, method="GET", body=None):
        connection = UnixConnection(self.folder / "node.sock")
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            reply = connection.getresponse()
            return json.loads(reply.read())
        finally:
            connection.close()

    def about(self):
        return self.get("/v1/node")

    def run(self, run_id):
        return self.get(f"/v1/runs/{run_id}")

    def events(self, run_id, kind=None):
        events = self.get(f"/v1/runs/{run_id}/events")["events"]
        return [event for event in events if kind is None or event["kind"] == kind]

    def submit(self, job, folder=None):
        """Writes the job file and runs it; returns the run's id."""
        folder = folder or pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        file = folder / "job.yaml"
        file.write_text(job)
        return self.cli("run", file)["run"]

    def wait_over(self, run_id, seconds=60):
        wait_until(lambda: self.run(run_id)["state"] in OVER, seconds, f"the end of {run_id}: {self.run(run_id)}")
        return self.run(run_id)

    def wait_running(self, run_id, workers, seconds=30):
        def running():
            state = self.run(run_id)
            return state if sum(worker["state"] == "running" for worker in state["workers"]) >= workers else None
        return wait_until(running, seconds, f"{workers} workers of {run_id}: {self.run(run_id)}")

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        status = self.process.wait(20)
        self.process.stdout.close()
        assert "Sanitizer" not in self.output(), self.output()
        assert status == 0, f"node {self.name} ended with {status}: {self.output()}"

    def kill(self):
        """As a crash would: the daemon gone, workers and guards untouched."""
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()

    def lose(self):
        """As if the machine were gone: the daemon, p2pd, guards and workers at once."""
        kill(processes_of(self.folder))
        self.process.wait(10)
        self.process.stdout.close()


class Swarm:
    """Nodes n0, n1, …; n0 made the swarm and coordinates what the tests submit."""

    def __init__(self, count, settings="cpus: 4\nmemory: 2GiB\n"):
        # Short, because a unix socket's path has 107 bytes; open, because workers are other users.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hm-", dir="/tmp"))
        self.folder.chmod(0o711)
        FOLDERS.add(self.folder)
        self.broken = False  # processes were killed that would have cleaned up
        self.nodes = [Node(self.folder / f"n{i}", f"n{i}", settings) for i in range(count)]

    def start(self):
        first = self.nodes[0]
        first.cli("swarm", "create", "test")
        first.start()
        for node in self.nodes[1:]:
            node.cli("join", first.cli("invite")["invite"])
            node.start()
        self.wait_complete()
        return self

    def wait_complete(self):
        for node in self.nodes:
            wait_until(lambda: len(node.get("/v1/nodes")["nodes"]) >= len(self.nodes), 30, f"{node.name} knows all: {node.output()}", 0.1)

    def close(self):
        """Ends everything that may have been left, by force; stop() is for tests of an orderly end."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                with contextlib.suppress(Exception):
                    for run in node.get("/v1/runs")["runs"]:
                        if run["state"] not in OVER:
                            node.get(f"/v1/runs/{run['id']}/stop", "POST")
                            node.wait_over(run["id"], 15)
        problems = []
        for node in self.nodes:
            try:
                node.stop()
            except Exception as error:  # all nodes are stopped before any of them is reported
                problems.append(str(error))
        names = {path.name for path in self.folder.glob("*/attempts/*")}
        ATTEMPTS.update(names)
        for _ in range(50):
            left = processes_of(self.folder)
            if not left:
                break
            self.broken = True
            kill(left)
            time.sleep(0.1)
        if self.broken:  # who kills guards has to do their work
            remove_cgroups(names)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not problems, "\n".join(problems)


FOLDERS = set()  # of all swarms that this session had
ATTEMPTS = set()  # names of all their attempts


def cgroups(names):
    """The cgroups of attempts with these names that exist now, the deepest first."""
    return [pathlib.Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup", topdown=False) if pathlib.Path(folder).name in names]


def remove_cgroups(names):
    for path in cgroups(names):
        with contextlib.suppress(OSError):
            path.rmdir()
