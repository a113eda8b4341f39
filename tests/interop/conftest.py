"""Fixtures that start our programs and stock Hivemind processes, and end them with all their children.

A Hivemind process has children (its DHT process, p2pd), and these survive their parent's death. So every process
starts in a session of its own, its tree is collected *before* anything is ended, and a test that leaves a process
behind fails.

    HIVEMETAL_BIN   folder with our binaries [build/dev/bin]
"""

import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("HIVEMETAL_BIN", ROOT / "build" / "dev" / "bin"))
PEER = pathlib.Path(__file__).with_name("hivemind_peer.py")
START_SECONDS = 60
ANSWER_SECONDS = 60


def children_of(pid: int) -> set[int]:
    """All living descendants of a process."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level} - found
        found |= level
    return found


def started_at(pid: int) -> str | None:
    """The start time of a living process: with the pid it names a process for good."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Peer:
    """A process that answers a JSON line on stdout for each JSON line on stdin; the first line says `ready`."""

    def __init__(self, command: list, environment: dict, log: pathlib.Path):
        self.log = log
        self._log_file = log.open("ab")
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log_file,
            env=os.environ | environment, start_new_session=True)
        self._answers: dict[int, queue.Queue] = {}
        self._first: queue.Queue = queue.Queue()
        self._lock = threading.Lock()
        self._last_id = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ready: dict = {}

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" in message:
                self._first.put(message)
            else:
                self._answers[message["id"]].put(message)
        self._first.put({"event": "failed", "error": "the process ended"})
        for waiting in list(self._answers.values()):
            waiting.put({"error": "the process ended"})

    def wait_ready(self) -> "Peer":
        try:
            self.ready = self._first.get(timeout=START_SECONDS)
        except queue.Empty:
            self.ready = {"event": "failed", "error": f"not ready within {START_SECONDS} s"}
        if self.ready["event"] != "ready":
            raise RuntimeError(f"{self.ready['error']}\n{self.log.read_text(errors='replace')[-4000:]}")
        return self

    @property
    def addresses(self) -> list[str]:
        return self.ready["addresses"]

    def send(self, **command):
        """Sends a command; the result is a function that waits for its answer."""
        with self._lock:
            self._last_id += 1
            number = self._last_id
            self._answers[number] = queue.Queue()
            self.process.stdin.write((json.dumps(command | {"id": number}) + "\n").encode())
            self.process.stdin.flush()

        def answer():
            try:
                message = self._answers[number].get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                raise TimeoutError(f"no answer to {command} within {ANSWER_SECONDS} s") from None
            del self._answers[number]
            return message
        return answer

    def do(self, what: str, **command) -> dict:
        return self.send(do=what, **command)()

    def store(self, key, value, ttl=60.0, **more) -> bool:
        answer = self.do("store", key=key, value=value, ttl=ttl, **more)
        assert "error" not in answer, answer
        return answer["stored"]

    def get(self, key, latest=True):
        """A value, a dictionary of values by sub-key (as JSON text, if it is no text), or None."""
        answer = self.do("get", key=key, latest=latest)
        assert "error" not in answer, answer
        found = answer["found"]
        if found is None:
            return None
        if "entries" in found:
            name = lambda subkey: subkey if isinstance(subkey, str) else json.dumps(subkey)
            return {name(entry["subkey"]): entry["value"] for entry in found["entries"]}
        return found["value"]

    def end(self, how=signal.SIGTERM):
        """Ends the whole tree: the leader by `how`, and by SIGKILL whatever is left after a while."""
        tree = {pid: started_at(pid) for pid in children_of(self.process.pid) | {self.process.pid}}
        if self.process.poll() is None:
            self.process.send_signal(how)
        alive = lambda: [pid for pid, start in tree.items() if start is not None and started_at(pid) == start]
        deadline = time.monotonic() + 10
        while alive() and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.02)
        left = alive()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(timeout=5)
        self.process.stdin.close()
        self._log_file.close()
        return left


@pytest.fixture
def short_tmp():
    """A folder with a short name: the path of a unix socket has at most 107 bytes."""
    folder = tempfile.mkdtemp(prefix="hm-", dir="/tmp")
    yield pathlib.Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
def start(short_tmp):
    """Starts peers; ends them all, last first, and fails if one of ours left a process behind.

        start.ours(initial_peers=[…], client=True, run="run id", sign=True)
        start.hivemind(initial_peers=[…], client=True, run="run id")

    Both return at once; wait_ready() then waits, so that several start side by side.
    """
    running: list[tuple[Peer, bool]] = []
    environment = {"TMPDIR": str(short_tmp), "OMP_NUM_THREADS": "1", "HIVEMIND_LOGLEVEL": "DEBUG"}

    class Start:
        @staticmethod
        def _start(command, ours):
            peer = Peer(command, environment, short_tmp / f"peer-{len(running)}.log")
            running.append((peer, ours))
            return peer

        def ours(self, initial_peers=(), client=False, run=None, sign=False, more=()) -> Peer:
            binary = BIN / "hivemetal-dht"
            if not binary.exists():
                pytest.skip(f"{binary} is not built")
            command = [binary, *more]
            for address in initial_peers:
                command += ["--initial-peer", address]
            command += ["--client"] if client else []
            command += ["--sign"] if sign else []
            command += ["--run", run] if run else []
            return self._start(command, True)

        def hivemind(self, initial_peers=(), client=False, run=None) -> Peer:
            pytest.importorskip("hivemind", reason="stock Hivemind is not installed")
            command = [sys.executable, PEER, *initial_peers]
            command += ["--client"] if client else []
            command += ["--run", run] if run else []
            return self._start(command, False)

    yield Start()
    left = []
    for peer, ours in reversed(running):
        survivors = peer.end()
        left += survivors if ours else []
    assert not left, f"our processes outlived SIGTERM: {left}"
