"""What happens in a run, gathered from its events: progress by epoch, totals, and how a recovery went."""


class Run:
    """Takes events in their order; everything else are questions."""

    def __init__(self):
        self.last = 0
        self.epochs = {}      # epoch → {attempt: its metrics}
        self.totals = {}      # attempt → last metrics: samples and bytes count from its start
        self.rounds = set()   # epochs with an averaging round that succeeded
        self.results = {}     # worker → its result
        self.attempts = {}    # worker → how many times it was started
        self.placed = {}      # worker → name of its node
        self.killed = None    # (worker, unix time)
        self.killed_at_epoch = self.back_at_epoch = None
        self.noticed = self.restarted = self.contributed = None  # seconds after the kill

    def take(self, event):
        """Returns the event's kind."""
        self.last = max(self.last, event["sequence"])
        kind, data, worker = event["kind"], event.get("data") or {}, event.get("worker", -1)
        attempt = (worker, self.attempts.get(worker, 0))
        if kind == "started":
            self.attempts[worker] = self.attempts.get(worker, 0) + 1
        elif kind == "placed":
            self.placed[worker] = data.get("node_name", "?")
        elif kind == "metrics":
            self.totals[attempt] = data
            self.epochs.setdefault(int(data["epoch"]), {})[attempt] = data
        elif kind == "round" and data.get("ok") and data.get("peers", 0) > 1:
            self.rounds.add((data.get("kind"), data["epoch"]))
        elif kind == "result":
            self.results[worker] = data
        self._watch_recovery(event, kind, data, worker)
        return kind

    def _watch_recovery(self, event, kind, data, worker):
        if self.killed is None or worker != self.killed[0] or event["time"] < self.killed[1]:
            return
        after = event["time"] - self.killed[1]
        if kind in ("ended", "lost") and self.noticed is None:
            self.noticed = after
        elif kind == "started" and self.noticed is not None and self.restarted is None:
            self.restarted = after
        elif kind == "round" and data.get("ok") and data.get("peers", 0) > 1 and self.restarted and self.contributed is None:
            self.contributed, self.back_at_epoch = after, data["epoch"]

    def epoch(self):
        return max(self.epochs, default=0)

    def view(self, epoch):
        """The whole swarm at an epoch, from those workers that have reported it."""
        reports = list(self.epochs[epoch].values())
        return {
            "accuracy": max(r["accuracy"] for r in reports),
            "loss": sum(r["loss"] for r in reports) / len(reports),
            "peers": max(r["peers"] for r in reports),
            "speed": sum(r["samples_per_second"] for r in reports),
            "bytes_sent": self.bytes_sent(),
        }

    def samples(self):
        return sum(metrics["samples"] for metrics in self.totals.values())

    def bytes_sent(self):
        return sum(metrics["bytes_sent"] for metrics in self.totals.values())

    def recovered_after(self):
        """Until the replacement took part in a round; until it ran, if the run was over before that."""
        return self.contributed if self.contributed is not None else self.restarted
