"""Watches Hivemind's averaging rounds from outside and reports each: how long matchmaking and the all-reduce took.

Nothing in the training depends on this file. Hivemind keeps a round's stage in memory that its processes share, so
a thread reads it there every few milliseconds while a round runs.
"""
import threading
import time

from hivemind.averaging import DecentralizedAverager
from hivemind.averaging.control import AveragingStage

STARTED = (AveragingStage.RUNNING_ALLREDUCE, AveragingStage.FINISHED)


class RoundWatch:
    """Call on_round(dict) after each averaging round of this process, from a thread of its own."""

    def __init__(self, on_round, payload_bytes, timeout):
        self.on_round, self.payload_bytes, self.timeout = on_round, payload_bytes, timeout
        self.bytes_sent = 0  # averaging only, computed: see README.md
        self.peers = 1       # in the last round that succeeded
        step = DecentralizedAverager.step

        def watched_step(averager, *args, **options):
            control = step(averager, *args, **options)
            if not options.get("wait", True):
                threading.Thread(target=self._watch, args=(control,), daemon=True).start()
            return control

        DecentralizedAverager.step = watched_step

    def _watch(self, control):
        begin = time.perf_counter()
        deadline = begin + 2 * self.timeout
        matched = None
        while not control.done() and time.perf_counter() < deadline:
            if matched is None and control.stage in STARTED:
                matched = time.perf_counter()
            time.sleep(0.004)
        end = time.perf_counter()
        peers, ok = 1, False
        if control.done() and not control.cancelled() and control.exception() is None:
            peers, ok = len(control.result()), True
        if ok:  # each peer sends its tensors less its own share, and its share's average to all others
            self.peers = peers
            self.bytes_sent += int(2 * (peers - 1) / peers * self.payload_bytes)
        matched = matched or end
        self.on_round(dict(kind="parameters", peers=peers, ok=ok, matchmaking_s=round(matched - begin, 3),
                           allreduce_s=round(end - matched, 3)))
