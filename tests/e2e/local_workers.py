"""Workers of examples/fashion as plain processes around one hivemind bootstrap: what a swarm's nodes do, without them.

    python tests/e2e/local_workers.py --workers 4 --kill 2 --at-epoch 20 -- --epochs 40
"""
import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fashion"


def tree(root):
    """The process and all below it, from /proc."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_tree(root):
    pids = tree(root)  # before the kill: afterwards the children belong to init
    sockets = {name for pid in pids for name in sockets_of_p2pd(pid)}
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    for path in sockets:  # a killed p2pd leaves them in /tmp
        Path(path).unlink(missing_ok=True)
    return pids


def sockets_of_p2pd(pid):
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return []
    listening = re.findall(r"/tmp/hivemind-p2pd-[\w-]+\.sock", command)
    return listening + [path.replace("-p2pd-", "-p2pclient-") for path in listening]


class Listener:
    """A worker's socket: keeps every event with the time at which it came."""

    def __init__(self, path):
        self.events = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection):
        with connection.makefile() as lines:
            for line in lines:
                self.events.append({"at": time.monotonic(), **json.loads(line)})

    def of(self, kind):
        return [event for event in self.events if event["event"] == kind]


class LocalSwarm:
    """A bootstrap and its workers. Use as a context: at the end every process is gone."""

    def __init__(self, folder, workers, arguments, python=sys.executable):
        self.folder, self.count, self.arguments, self.python = Path(folder), workers, list(arguments), python
        self.workers, self.listeners, self.seen = {}, {}, set()

    def __enter__(self):
        self.log = open(self.folder / "bootstrap.log", "w+")
        command = [self.python, "-c", "from hivemind.hivemind_cli.run_dht import main; main()",
                   "--host_maddrs", "/ip4/127.0.0.1/tcp/0", "--refresh_period", "30"]
        self.bootstrap = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=self.environment())
        deadline = time.monotonic() + 60
        self.address = None
        while self.address is None:
            assert time.monotonic() < deadline and self.bootstrap.poll() is None, (self.folder / "bootstrap.log").read_text()
            found = re.search(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+", (self.folder / "bootstrap.log").read_text())
            self.address = found and found[0]
            time.sleep(0.1)
        return self

    def environment(self, **more):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}

    def start(self, index, attempt=0):
        name = f"w{index}.{attempt}"
        self.listeners[index, attempt] = Listener(self.folder / f"{name}.sock")
        environment = self.environment(
            HIVEMETAL_RUN_ID="test", HIVEMETAL_INITIAL_PEERS=self.address, HIVEMETAL_WORKER_INDEX=str(index),
            HIVEMETAL_WORKERS=str(self.count), HIVEMETAL_SOCKET=str(self.folder / f"{name}.sock"),
            HIVEMETAL_CHECKPOINTS=str(self.folder / f"checkpoints-{index}"))
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen([self.python, str(EXAMPLE / "train.py"), *self.arguments], env=environment,
                                       stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        self.workers[index] = process
        return process

    def events(self, kind=None):
        every = [{"worker": key[0], "attempt": key[1], **event} for key, listener in self.listeners.items()
                 for event in list(listener.events)]
        return sorted((e for e in every if kind in (None, e["event"])), key=lambda event: event["at"])

    def epoch(self):
        return max((event["epoch"] for event in self.events("metrics")), default=0)

    def __exit__(self, *_):
        for process in [*self.workers.values(), self.bootstrap]:
            if process.poll() is None:
                kill_tree(process.pid)
            process.wait()
        for listener in self.listeners.values():
            listener.server.close()
        self.log.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill", type=int)
    parser.add_argument("--at-epoch", type=int, default=20)
    parser.add_argument("--back-after", type=float, default=2)
    parser.add_argument("--folder")
    parser.add_argument("arguments", nargs="*")
    args = parser.parse_args()
    folder = args.folder or tempfile.mkdtemp(prefix="lw")
    begin = time.monotonic()
    with LocalSwarm(folder, args.workers, args.arguments) as swarm:
        for index in range(args.workers):
            swarm.start(index)
        killed = None
        while any(p.poll() is None for p in swarm.workers.values()) and time.monotonic() - begin < 300:
            time.sleep(0.05)
            if args.kill is not None and killed is None and swarm.epoch() >= args.at_epoch:
                killed = time.monotonic()
                kill_tree(swarm.workers[args.kill].pid)
                swarm.workers[args.kill].wait()
                time.sleep(args.back_after)
                swarm.start(args.kill, 1)
        metrics, rounds, results = swarm.events("metrics"), swarm.events("round"), swarm.events("result")
        first = metrics[0]["at"]
        print("codes", {i: p.returncode for i, p in swarm.workers.items()}, "wall", round(time.monotonic() - begin, 1),
              "first epoch at", round(first - begin, 1))
        for e in metrics:
            if e["worker"] == 0 and (e["epoch"] % 5 == 0):
                print(round(e["at"] - begin, 1), {k: v for k, v in e.items() if k not in ("at", "event")})
        ok = [r for r in rounds if r["ok"]]
        sizes = {}
        for r in rounds:
            sizes[(r["peers"], r["ok"])] = sizes.get((r["peers"], r["ok"]), 0) + 1
        print("rounds by (peers, ok)", sizes)
        if ok:
            for key in ("matchmaking_s", "allreduce_s"):
                values = sorted(r[key] for r in ok)
                print(key, "median", values[len(values) // 2], "max", values[-1])
        if killed:
            fresh = [r for r in swarm.events("round") if r["attempt"] == 1 and r["ok"]]
            print("killed at", round(killed - begin, 1), "replacement's first round after",
                  round(fresh[0]["at"] - killed, 1) if fresh else None)
        for r in results:
            print({k: v for k, v in r.items() if k not in ("at", "event")})
        for i in range(args.workers):
            print(i, [(round(e["at"] - begin, 1), e["text"]) for e in swarm.events("note") if e["worker"] == i])
    print(folder)


if __name__ == "__main__":
    main()
