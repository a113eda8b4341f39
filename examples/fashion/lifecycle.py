"""How a worker begins and ends with the others, and how it ends at all.

A process that uses hivemind has children (DHT, averager, p2pd), and an exception in its main thread leaves it waiting
for them for ever. So run() always ends the process, with everything it started, a few seconds after main() did.
"""
import os
import signal
import sys
import threading
import time
import traceback

from hivemind.utils import get_dht_time

STOPPED_BY_TERM = 143  # 128 + SIGTERM, as a shell would say it
EXIT_SECONDS = 6       # for shutting down in order; then by force

_stop = threading.Event()
_exits = []


def stopping():
    """Somebody sent TERM: finish the step and leave."""
    return _stop.is_set()


def on_exit(*functions):
    _exits.extend(functions)


def run(main):
    """Runs main() and ends this process: 0, 1 after an exception (its traceback on stderr), 143 after TERM."""
    owner = os.getpid()

    def on_term(*_):
        if os.getpid() != owner:  # in a child forked by hivemind: die as if the handler weren't there
            os._exit(STOPPED_BY_TERM)
        if not _stop.is_set():
            _stop.set()
            _end_in(EXIT_SECONDS, STOPPED_BY_TERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_term)
    code = 0
    try:
        main()
    except SystemExit as exit_request:
        code = exit_request.code if isinstance(exit_request.code, int) else 1 if exit_request.code else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    code = STOPPED_BY_TERM if stopping() else code
    _end_in(EXIT_SECONDS, code)
    for function in _exits:
        try:
            function()
        except BaseException:
            traceback.print_exc()
    _end_now(code)


def _end_in(seconds, code):
    timer = threading.Timer(seconds, _end_now, [code])
    timer.daemon = True
    timer.start()


def _end_now(code):
    for pid in _descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _descendants(root):
    """All processes below `root`, from /proc; the youngest last."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                pass
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


class Swarm:
    """What the workers of a run tell each other through the DHT beside their progress: who is ready, who is done."""

    def __init__(self, dht, run_id, workers):
        self.dht, self.workers = dht, workers
        self.me = str(dht.peer_id)
        self.ready_key, self.done_key = f"{run_id}_ready", f"{run_id}_done"

    def _names(self, key):
        record = self.dht.get(key, latest=True)
        return dict(record.value) if record and isinstance(record.value, dict) else {}

    def _announce(self, key, value):
        self.dht.store(key, subkey=self.me, value=value, expiration_time=get_dht_time() + 600)

    def wait_for_all(self, begun, timeout):
        """Until all workers of the run are here, or the run has begun without us; returns how many it saw."""
        deadline, seen = time.monotonic() + timeout, 0
        while seen < self.workers and time.monotonic() < deadline and not begun() and not stopping():
            self._announce(self.ready_key, 1)  # again and again: the first may have met a DHT of fewer nodes
            seen = len(self._names(self.ready_key))
            time.sleep(0.3)
        return seen

    def finished(self, epochs):
        return any(done.value >= epochs for done in self._names(self.done_key).values())

    def declare_finished(self, epochs):
        self._announce(self.done_key, epochs)

    def wait_for_others_to_finish(self, timeout):
        """Stays reachable for somebody who is an epoch behind and has to fetch the end from us."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and len(self._names(self.done_key)) < self.workers and not stopping():
            time.sleep(0.3)
