"""A swarm of nodes on this machine's loopback, for ./demo: its start, its control API, and its end without a trace."""

import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

SHARED_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


class DemoError(Exception):
    """Told to the user as it is."""


def processes():
    """pid → parent of everything that runs."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass
    return found


def tree(root):
    """The process and all below it."""
    parents = processes()
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [pid for pid in found if pid in parents]


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def wait_until(condition, seconds, step=0.05):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(step)
    return condition()


def die_with_parent():
    """In a child, before exec: TERM when the demo is killed without a chance to clean up."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("node", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    """One daemon with its directory."""

    def __init__(self, program, folder, name, environments, cpus, outlive):
        self.program, self.folder, self.name, self.outlive = program, folder, name, outlive
        self.process = None
        folder.mkdir(mode=0o711)
        settings = [f"name: {name}", f"cpus: {cpus}", "environments:"]
        settings += [f"  {key}: {path}" for key, path in environments.items()]
        (folder / "config.yaml").write_text("\n".join(settings) + "\n")

    def command(self, *arguments, timeout=30):
        """Runs `hivemetal ARGUMENTS --dir … --json`; returns what it says."""
        command = [str(self.program), *arguments, "--dir", str(self.folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise DemoError(f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}

    def start(self):
        log = open(self.folder / "node.out", "ab")
        # A session of its own: Ctrl-C in the terminal is for the demo, which ends its nodes in order.
        self.process = subprocess.Popen([str(self.program), "node", "run", "--dir", str(self.folder)], stdout=log,
                                        stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                        preexec_fn=None if self.outlive else die_with_parent)
        log.close()

    def output(self):
        path = self.folder / "node.out"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def request(self, method, path, body=None, timeout=10):
        connection = UnixConnection(self.folder / "node.sock", timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        if response.status >= 400:
            raise DemoError(f"{method} {path}: {answer.get('error', {}).get('message', answer)}")
        return answer

    def wait_ready(self, seconds):
        def ready():
            if self.process.poll() is not None:
                raise DemoError(f"node {self.name} ended with status {self.process.returncode}:\n{self.output()}")
            try:
                self.request("GET", "/v1/node", timeout=2)
                return True
            except (OSError, http.client.HTTPException, ValueError):
                return False
        if not wait_until(ready, seconds, 0.1):
            raise DemoError(f"node {self.name} was not ready after {seconds} s:\n{self.output()}")


class Swarm:
    """Nodes n1, n2, … in one folder; n1 founds the swarm and coordinates the run."""

    def __init__(self, program, environment, nodes, outlive=False):
        # Short, because a unix socket's path has 107 bytes; open to be passed through, because workers are other users.
        self.folder = Path(tempfile.mkdtemp(prefix="hivemetal-demo-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.begin = time.time()
        self.run_id = None
        self.nodes = [Node(program, self.folder / f"n{i + 1}", f"n{i + 1}", {"torch": environment}, 2, outlive)
                      for i in range(nodes)]

    def start(self):
        first, others = self.nodes[0], self.nodes[1:]
        first.command("swarm", "create", "demo")
        first.start()
        first.wait_ready(60)
        for node in others:
            node.command("join", first.command("invite")["invite"])
            node.start()
        for node in others:
            node.wait_ready(60)
        if not wait_until(lambda: len(first.request("GET", "/v1/nodes")["nodes"]) >= len(self.nodes), 30, 0.2):
            seen = [node["name"] for node in first.request("GET", "/v1/nodes")["nodes"]]
            raise DemoError(f"after 30 s {first.name} sees only {', '.join(seen) or 'nobody'}:\n{first.output()}")

    def submit(self, job):
        self.run_id = self.nodes[0].command("run", str(job))["run"]
        return self.run_id

    def run(self):
        return self.nodes[0].request("GET", f"/v1/runs/{self.run_id}")

    def events(self, since):
        return self.nodes[0].request("GET", f"/v1/runs/{self.run_id}/events?since={since}")["events"]

    def last_words(self, lines=20):
        """The end of what the workers printed, for when something went wrong."""
        if self.run_id is None:
            return []
        command = [str(self.nodes[0].program), "logs", self.run_id, "--dir", str(self.nodes[0].folder)]
        try:
            said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10).stdout
        except (OSError, subprocess.TimeoutExpired):
            return []
        return said.splitlines()[-lines:]

    # ---------------------------------------------------------------------------------------------- the end

    def close(self):
        """Ends everything, in order where that goes, by force where not. Takes some seconds at most."""
        self._stop_run()
        running = [node.process for node in self.nodes if node.process and node.process.poll() is None]
        pids = {pid for process in running for pid in tree(process.pid)}
        kill([process.pid for process in running], signal.SIGTERM)
        wait_until(lambda: all(process.poll() is not None for process in running), 8)
        sweep(self.folder, self.begin, pids)

    def _stop_run(self):
        try:
            if self.run_id is None:  # submitted perhaps, while we were interrupted
                runs = self.nodes[0].request("GET", "/v1/runs", timeout=2)["runs"]
                self.run_id = runs[0]["id"] if runs else None
            if self.run_id is None or self.run()["state"] in ("finished", "failed", "stopped"):
                return
            self.nodes[0].request("POST", f"/v1/runs/{self.run_id}/stop", timeout=3)
            wait_until(lambda: self.run()["state"] in ("finished", "failed", "stopped"), 15, 0.1)
        except (DemoError, OSError, http.client.HTTPException, ValueError, IndexError, KeyError):
            pass  # the node is not there or not well: sweep() does the rest


def sweep(folder, begin, pids=()):
    """Removes what a swarm in `folder`, begun at unix time `begin`, may have left: processes, cgroups, files."""
    def ours():
        found = set()
        for pid in processes():
            try:
                said = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in said and pid != os.getpid():
                found.add(pid)
        return found

    for _ in range(20):
        left = ours() | {pid for pid in pids if _is_descendant_left(pid, folder)}
        if not left:
            break
        kill({child for pid in left for child in tree(pid)})
        time.sleep(0.1)
    for node in folder.glob("n*"):
        _remove_cgroups(node)
        _free_users(node)
    users = {entry.stat().st_uid for entry in folder.glob("n*/attempts/*/*") if not entry.is_symlink()} - {0}
    _remove_sockets(begin, users)
    shutil.rmtree(folder, ignore_errors=True)


def _is_descendant_left(pid, folder):
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def node_tag(folder):
    """The name of a node's cgroups, as src/runner/baremetal/host.cpp makes it: FNV-1a of the folder."""
    digest = 0xCBF29CE484222325
    for byte in os.fsencode(folder):
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    return f"{digest >> 16:012x}"


def _remove_cgroups(node):
    for top in Path("/sys/fs/cgroup").glob(f"**/hivemetal/{node_tag(node)}"):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                kill(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
                wait_until(lambda: not (Path(folder) / "cgroup.procs").read_text(), 2, 0.02)
                os.rmdir(folder)
            except OSError:
                pass


def _free_users(node):
    """Users that the node's runner had taken for workers and, killed, couldn't give back."""
    for path in Path("/run/hivemetal/uids").glob("[0-9]*"):
        try:
            if path.read_text().startswith(f"{node}\n"):
                path.unlink()
        except OSError:
            pass


def _remove_sockets(begin, users):
    """Unix sockets that workers left in shared folders, and shared memory: of their users, or ours, bound by nobody."""
    bound = set(re.findall(r"(/\S+)$", Path("/proc/net/unix").read_text(), re.M))
    for folder in SHARED_FOLDERS:
        for path in folder.iterdir():
            try:
                status = path.lstat()
                theirs = status.st_uid in users
                dead_socket = path.is_socket() and path.name.startswith("hivemind-") and str(path) not in bound
                if status.st_mtime >= begin and theirs and (path.is_file() or dead_socket):
                    path.unlink()
            except OSError:
                pass
