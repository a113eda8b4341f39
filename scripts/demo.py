"""Four nodes on this machine train one model together; one worker is killed half-way, and the swarm recovers.

    ./demo                  the whole story, under two minutes once everything is built
    ./demo --json           the same, quietly, and one JSON object on the last line
    ./demo --keep           leaves the swarm running afterwards, and says how to look and how to stop it
    ./demo --stop           stops a swarm that was left running
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from demo_run import Run
from demo_show import Screen, size
from demo_swarm import DemoError, Swarm, kill, sweep, tree

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "fashion"
PLACE = ROOT / ".demo"
OVER = ("finished", "failed", "stopped")


def options():
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="averaging rounds [40; the accuracy needs them]")
    parser.add_argument("--nodes", type=int, default=4, help="daemons [4]")
    parser.add_argument("--workers", type=int, default=4, help="trainers [4]")
    parser.add_argument("--no-kill", action="store_true", help="kill no worker")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line, progress on stderr")
    parser.add_argument("--keep", action="store_true", help="leave the swarm running")
    parser.add_argument("--stop", action="store_true", help="stop a swarm that --keep left running, and exit")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "release" / "bin" / "hivemetal",
                        help="another build's hivemetal [build/release/bin/hivemetal]")
    parser.add_argument("--timeout", type=float, default=600, help="seconds until it gives up [600]")
    args = parser.parse_args()
    for name, most in (("epochs", 10_000), ("nodes", 16), ("workers", 64)):
        if not 1 <= getattr(args, name) <= most:
            parser.error(f"--{name} must be from 1 to {most}")
    return args


def job_file(folder, args):
    """The example's job with this call's numbers, beside copies of its files."""
    place = folder / "job"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    text = (place / "job.yaml").read_text()
    text = text.replace('"40"', f'"{args.epochs}"').replace("{min: 2, max: 4}", f"{{min: {args.workers}, max: {args.workers}}}")
    (place / "job.yaml").write_text(text)
    return place / "job.yaml"


def loopback_bytes():
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[8])
    return 0


class Demo:
    def __init__(self, args, screen):
        self.args, self.screen = args, screen
        self.begin = time.monotonic()
        self.deadline = self.begin + args.timeout
        self.run, self.swarm = Run(), None
        self.shown = 0
        self.victim_node = None

    def tell(self):
        args, screen = self.args, self.screen
        environment = (ROOT / ".venv").resolve()
        screen.title(f"Hivemetal: {args.nodes} nodes, {args.workers} workers, Fashion-MNIST, stock hivemind.Optimizer")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # or its folder might be made and not known
        self.swarm = Swarm(args.program, environment, args.nodes, outlive=args.keep)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        screen.status("starting the nodes …")
        self.swarm.start()
        screen.mark(f"{args.nodes} nodes are up and know each other, {self.since_begin():.1f} s", 36)
        lo = loopback_bytes()
        run_id = self.swarm.submit(job_file(self.swarm.folder, args))
        screen.mark(f"submitted examples/fashion/job.yaml as {run_id}; every worker holds images of five classes only", 36)
        self.train()
        return self.summary(loopback_bytes() - lo)

    def since_begin(self):
        return time.monotonic() - self.begin

    def train(self):
        while True:
            for event in self.swarm.events(self.run.last):
                self.react(event)
            state = self.swarm.run()
            if state["state"] in OVER:
                for event in self.swarm.events(self.run.last):
                    self.react(event)
                if state["state"] != "finished":
                    raise DemoError(f"the run ended as {state['state']}: {state['reason']}")
                return
            if time.monotonic() > self.deadline:
                raise DemoError(f"no end after {self.args.timeout:.0f} s; the run was in epoch {self.run.epoch()}")
            self.maybe_kill(state)
            self.screen.status(f"{self.since_begin():5.1f} s  epoch {self.run.epoch()}/{self.args.epochs}  "
                               f"{sum(w['state'] == 'running' for w in state['workers'])} workers running")
            time.sleep(0.15)

    def react(self, event):
        run, screen = self.run, self.screen
        before = run.noticed, run.restarted, run.contributed
        kind = run.take(event)
        worker = event.get("worker", -1)
        if kind == "started" and run.killed is None:
            screen.mark(f"worker {worker} runs on {run.placed.get(worker, '?')}, {self.since_begin():.1f} s", 36)
        elif kind == "ended" and run.killed is None and (event.get("data") or {}).get("code") != 0:
            screen.mark(f"worker {worker} ended too early: {event['text']}", 33)
        elif kind in ("failed", "waiting"):
            screen.mark(f"{kind}: {event['text']}", 33)
        elif kind == "metrics":
            # An epoch is shown when the next one begins: then all workers have told how it went.
            for epoch in sorted(e for e in run.epochs if self.shown < e < run.epoch()):
                self.show(epoch)
        elif kind == "result":
            self.show(run.epoch())
        if before != (run.noticed, run.restarted, run.contributed) and run.killed[0] == worker:
            what, after = {"ended": ("the node noticed that its process is gone", run.noticed),
                           "lost": ("its node noticed", run.noticed),
                           "started": (f"worker {worker} runs again, on {run.placed.get(worker, '?')}", run.restarted)
                           }.get(kind, (f"worker {worker} takes part in a round again", run.contributed))
            screen.mark(f"{what}: {after:.1f} s after the kill", 32)

    def show(self, epoch):
        if epoch > self.shown:
            self.shown = epoch
            self.screen.epoch(epoch, self.args.epochs, self.run.view(epoch))

    def maybe_kill(self, state):
        """Half-way, one worker is killed with everything it started, as a power cut would."""
        half = max(1, self.args.epochs // 2)
        if self.run.killed or self.args.no_kill or self.args.workers < 2 or self.run.epoch() < half or self.run.results:
            return
        running = [worker for worker in state["workers"] if worker["state"] == "running" and worker["pid"] > 0]
        if not running:
            return
        victim = running[-1]
        pids = tree(victim["pid"])
        self.run.killed, self.run.killed_at_epoch = (victim["worker"], time.time()), self.run.epoch()
        kill(pids)
        self.screen.mark(f"kill -9 of worker {victim['worker']} on {victim['node_name']}: {len(pids)} processes, on purpose", 31)

    def summary(self, loopback):
        run, args = self.run, self.args
        results = run.results
        if 0 not in results:
            raise DemoError("worker 0 reported no result; hivemetal logs shows why")
        last = PLACE / "last"
        shutil.rmtree(last, ignore_errors=True)
        last.mkdir(parents=True)
        checkpoint = self.save_checkpoint(last)
        samples, sent = run.samples(), run.bytes_sent()
        recovered = run.recovered_after()
        rounded = lambda value, digits=2: None if value is None else round(value, digits)
        facts = {
            "accuracy": max(result["accuracy"] for result in results.values() if result["epochs"] >= args.epochs),
            "accuracy_alone": results[0].get("accuracy_alone"), "workers": args.workers, "nodes": args.nodes,
            "epochs": args.epochs, "rounds": len(run.rounds), "samples": samples, "seconds": round(self.since_begin(), 2),
            "training_seconds": rounded(max(result["seconds"] for result in results.values())), "bytes_sent": sent,
            "bytes_per_sample": round(sent / max(1, samples), 1), "loopback_bytes": loopback,
            "noticed_after_s": rounded(run.noticed), "restarted_after_s": rounded(run.restarted),
            "recovered_after_s": rounded(recovered), "killed_at_epoch": run.killed_at_epoch,
            "back_at_epoch": run.back_at_epoch, "checkpoint": checkpoint,
        }
        (last / "result.json").write_text(json.dumps(facts, indent=2) + "\n")
        with open(last / "epochs.json", "w") as file:
            json.dump([{"epoch": epoch, **run.view(epoch)} for epoch in sorted(run.epochs)], file)
        return facts

    def save_checkpoint(self, folder):
        source = Path(self.run.results[0].get("checkpoint", ""))
        if not source.is_file():
            raise DemoError(f"worker 0 names {source} as its checkpoint, and there is none")
        shutil.copyfile(source, folder / "model.pt")
        return str(folder / "model.pt")


def print_end(screen, facts):
    screen.line()
    screen.title(f"test accuracy   {facts['accuracy']:.1%}   the swarm")
    if facts["accuracy_alone"] is not None:
        screen.line(f"                {facts['accuracy_alone']:.1%}   one worker alone: same network, same number of samples, only its own part")
    screen.line(f"wall time       {facts['seconds']:.0f} s, {facts['training_seconds']:.0f} s of it training; {facts['rounds']} averaging rounds")
    if facts["recovered_after_s"] is not None:
        screen.line(f"recovery        noticed after {facts['noticed_after_s']:.1f} s, running again after {facts['restarted_after_s']:.1f} s, "
                    f"averaging again after {facts['recovered_after_s']:.1f} s")
    screen.line(f"traffic         {facts['bytes_per_sample']:.0f} bytes of averaging per sample ({size(facts['bytes_sent'])} for {facts['samples']:,} samples); "
                f"{size(facts['loopback_bytes'])} on loopback in all")
    screen.line(f"checkpoint      {facts['checkpoint']}")
    screen.line()


def keep(demo, screen):
    first = demo.swarm.nodes[0]
    PLACE.mkdir(exist_ok=True)
    (PLACE / "running.json").write_text(json.dumps({
        "folder": str(demo.swarm.folder), "begin": demo.swarm.begin, "pids": [n.process.pid for n in demo.swarm.nodes]}))
    program = f"{os.path.relpath(demo.args.program)} --dir {first.folder}"
    screen.line("the swarm is still running; look at it with")
    for verb, what in (("node list", "its nodes"), (f"explain {demo.swarm.run_id}", "what happened, and why"),
                       (f"logs {demo.swarm.run_id}", "what the workers said"), ("top", "live")):
        command, _, folder = program.partition(" --dir")
        screen.line(f"  {command} {verb} --dir{folder}".ljust(88) + f" # {what}")
    screen.line("and stop it with\n  ./demo --stop")


def stop(screen):
    record = PLACE / "running.json"
    if not record.exists():
        screen.line("no swarm was left running")
        return 0
    left = json.loads(record.read_text())
    folder = Path(left["folder"])
    ours = [pid for pid in left["pids"] if os.fsencode(folder) in read_command(pid)]
    kill(ours, signal.SIGTERM)
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline and any(read_command(pid) for pid in ours):
        time.sleep(0.1)
    sweep(folder, left["begin"])
    record.unlink()
    screen.line("stopped")
    return 0


def read_command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupted(number, _):
    for each in SIGNALS:  # a second Ctrl-C must not leave half of it behind
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def main():
    args = options()
    screen = Screen(sys.stderr if args.json else sys.stdout)
    if args.stop:
        return stop(screen)
    for number in SIGNALS:
        signal.signal(number, interrupted)
    demo, kept, code = Demo(args, screen), False, 0
    try:
        facts = demo.tell()
        print_end(screen, facts)
        if args.keep:
            keep(demo, screen)
            kept = True
        else:
            screen.line("look further: ./demo --keep leaves the swarm running; examples/fashion/README.md explains the training")
    except KeyboardInterrupt as stop_request:
        number = stop_request.args[0] if stop_request.args else signal.SIGINT
        code = 128 + number
        screen.line("interrupted: ending the swarm")
    except DemoError as error:
        screen.line(f"demo: {error}")
        for line in demo.swarm.last_words() if demo.swarm else []:
            screen.line(f"  {line}")
        code = 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if demo.swarm and not kept:
            demo.swarm.close()
    if code == 0 and args.json:
        print(json.dumps(facts), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
