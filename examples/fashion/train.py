"""Trains a small network on Fashion-MNIST with a stock hivemind.Optimizer.

Each worker holds its own part of the images, of five classes only. A worker takes some local steps of SGD, then all
average their parameters; that is one epoch. Alone none of them can name more than its five classes.

It runs anywhere: `hivemetal run job.yaml` starts it as a worker of a swarm, and the node says in HIVEMETAL_* whom to
meet; without these variables it trains by itself. README.md has the rest.
"""
import argparse
import gzip
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # OpenBLAS reads it when torch is imported

import hivemind
import numpy as np
import torch
from hivemind.compression import Float16Compression
from torch.nn.functional import cross_entropy

import lifecycle
from hivemetal_worker import report
from rounds import RoundWatch

DATA = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
CLASSES = 10


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="averaging rounds of the whole run")
    parser.add_argument("--samples-per-epoch", type=int, default=8192, help="of all workers together")
    parser.add_argument("--batch", type=int, default=128, help="samples of one local SGD step")
    parser.add_argument("--steps-per-report", type=int, default=4,
                        help="local steps between two progress reports; each costs a signed DHT record")
    parser.add_argument("--rate", type=float, default=4000,
                        help="samples per second at most, so that nobody runs far ahead between two rounds")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--checkpoints", type=Path, default=os.environ.get("HIVEMETAL_CHECKPOINTS", "checkpoints"))
    parser.add_argument("--alone", action="store_true", help="train on this worker's own part only, without a network")
    return parser.parse_args()


# ---------------------------------------------------------------------------------------------------- the data

def read_idx(path, header):
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())


def load(folder, part):
    """Images as bytes (a quarter of the memory), one per row, and their labels; `part` is train or t10k."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 784)
    return images, read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8).long()


def own_part(labels, worker, workers):
    """Indices of this worker's images: five of the ten classes, and of these no image that another worker has.

    Workers come in pairs that hold all classes between them: 0–4 and 5–9, then the even and the odd ones. So with
    four workers each class is held by two, and each image by one.
    """
    if workers == 1:
        return torch.arange(len(labels))
    pair, side = divmod(worker % workers, 2)
    order = list(range(CLASSES)) if pair % 2 == 0 else [*range(0, CLASSES, 2), *range(1, CLASSES, 2)]
    classes = order[:5] if side == 0 else order[5:]
    pairs = (workers + 1) // 2
    return torch.cat([(labels == c).nonzero().flatten()[pair::pairs] for c in classes])


def batches(images, labels, own, size, seed):
    """Endless random batches, ready for the network."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        pick = own[torch.randint(len(own), (size,), generator=generator)]
        yield as_input(images[pick]), labels[pick]


def as_input(images):
    return images.float().div_(255).sub_(0.286).div_(0.353)


# ---------------------------------------------------------------------------------------------------- the network

def make_model():
    torch.manual_seed(0)  # every worker starts from the same weights
    return torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, CLASSES))


def learning_rate(epoch, epochs):
    """Relative to --lr: two epochs of warm-up, then half a cosine down to a twentieth. A plain float, no numpy: it
    travels to workers that join late, and Hivemind's serializer knows no numpy."""
    return min(1.0, (epoch + 1) / 2) * (0.525 + 0.475 * math.cos(math.pi * min(1.0, epoch / epochs)))


def make_optimizer(parameters, args):
    return torch.optim.SGD(parameters, lr=args.lr, momentum=0.9, nesterov=True)


def make_schedule(optimizer, args):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: learning_rate(epoch, args.epochs))


@torch.no_grad()
def accuracy(model, images, labels):
    right = [(model(as_input(i)).argmax(1) == l).sum() for i, l in zip(images.split(2000), labels.split(2000))]
    return round(float(sum(right)) / len(labels), 4)


def train_alone(args, images, labels, own, samples):
    """The same network, schedule and number of samples on this worker's part only: what averaging is worth."""
    model = make_model()
    optimizer = make_optimizer(model.parameters(), args)
    schedule = make_schedule(optimizer, args)
    steps = max(1, samples // args.batch)
    data = batches(images, labels, own, args.batch, seed=1)
    for step in range(steps):
        if step * args.epochs // steps != (step - 1) * args.epochs // steps and step:
            schedule.step()
        optimizer.zero_grad()
        inputs, targets = next(data)
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model


# ---------------------------------------------------------------------------------------------------- checkpoints

def save_checkpoint(folder, model, optimizer, epoch, keep=3):
    """Writes epoch-N.pt in one move, so that a reader never sees half a file, and drops all but the last `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"epoch-{epoch}.pt", folder / f".epoch-{epoch}.{os.getpid()}.part"
    torch.save({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, part)
    part.rename(path)
    for old in checkpoints(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder):
    """Newest first."""
    found = [path for path in folder.glob("epoch-*.pt") if path.stem[6:].isdigit()]
    return sorted(found, key=lambda path: int(path.stem[6:]), reverse=True)


def load_checkpoint(folder, model):
    """The newest checkpoint that can be read, with its weights in the model; None if there is none."""
    for path in checkpoints(folder):
        try:
            saved = torch.load(path, map_location="cpu")
            model.load_state_dict(saved["model"])
            return saved
        except Exception as error:  # cut short, of another network, or no checkpoint at all: try the one before
            print(f"skipping {path}: {error}", flush=True)
    return None


# ---------------------------------------------------------------------------------------------------- the swarm

def join(args, model, run_id, workers):
    """The DHT and the optimizer of this worker. The settings suit rounds of about a second on one machine."""
    peers = [p for p in os.environ.get("HIVEMETAL_INITIAL_PEERS", "").split(",") if p]
    host = os.environ.get("HIVEMETAL_LISTEN", "/ip4/127.0.0.1/tcp/0")
    dht = hivemind.DHT(initial_peers=peers, host_maddrs=[host], startup_timeout=60, start=True)
    optimizer = hivemind.Optimizer(
        dht=dht, run_id=run_id, target_batch_size=args.samples_per_epoch, params=model.parameters(),
        optimizer=lambda parameters: make_optimizer(parameters, args), scheduler=lambda inner: make_schedule(inner, args),
        use_local_updates=True,              # take local steps at once and average parameters, not gradients: a round
        delay_state_averaging=False,         # that fails is made good by the next one, since it averages everything
        matchmaking_time=1.0,                # a full group starts at once, one with somebody missing after this
        averaging_timeout=5.0, next_chunk_timeout=2.0, load_state_timeout=20.0, shutdown_timeout=1.0,
        state_averaging_compression=Float16Compression(),
        averager_opts=dict(target_group_size=max(2, workers), request_timeout=0.5),
        tracker_opts=dict(min_refresh_period=0.25, default_refresh_period=1.0, max_refresh_period=2.0,
                          metadata_expiration=20.0),  # the dead are forgotten after this
    )
    return dht, optimizer


class Worker:
    """One worker's way through a run: takes its part of the data, meets the others, trains with them, reports."""

    def __init__(self, args, index, workers):
        self.args, self.index, self.workers = args, index, workers
        self.run_id = os.environ.get("HIVEMETAL_RUN_ID", "fashion")
        self.images, self.labels = load(args.data, "train")
        self.tests, self.answers = load(args.data, "t10k")
        self.own = own_part(self.labels, index, workers)
        self.model = make_model()
        self.samples, self.accuracy, self.begin = 0, 0.0, time.monotonic()

    def alone(self):
        """What this worker reaches on its own part, with as many samples as its share of the run."""
        samples = self.args.epochs * self.args.samples_per_epoch // self.workers
        model = train_alone(self.args, self.images, self.labels, self.own, samples)
        return accuracy(model, self.tests, self.answers)

    def meet(self):
        """Finds the others and catches up with them; False if they have finished already."""
        saved = load_checkpoint(self.args.checkpoints, self.model)
        dht, self.optimizer = join(self.args, self.model, self.run_id, self.workers)
        lifecycle.on_exit(self.optimizer.shutdown, dht.shutdown)
        self.swarm = lifecycle.Swarm(dht, self.run_id, self.workers)
        if self.swarm.finished(self.args.epochs):
            report("note", text="the run had finished before this worker came")
            return False
        if saved:
            self.optimizer.load_state_dict(saved["optimizer"])
            report("note", text=f"resumed from epoch {saved['epoch']}")
        begin = time.monotonic()
        seen = self.swarm.wait_for_all(lambda: self.optimizer.tracker.global_epoch > 0, timeout=20)
        report("note", text=f"saw {seen} of {self.workers} workers after {time.monotonic() - begin:.1f} s")
        if self.optimizer.tracker.global_epoch > self.optimizer.local_epoch:
            self.optimizer.load_state_from_peers()  # the others are ahead: take over where they are
            report("note", text=f"joined at epoch {self.optimizer.local_epoch}")
        payload = 2 * sum(parameter.numel() for parameter in self.model.parameters())  # in float16
        self.rounds = RoundWatch(lambda r: report("round", epoch=self.optimizer.local_epoch, **r), payload, timeout=5.0)
        return True

    def train(self):
        """Until the swarm has done all epochs, or somebody wants us to stop."""
        args, optimizer = self.args, self.optimizer
        data = batches(self.images, self.labels, self.own, args.batch, seed=self.index + 1000 * optimizer.local_epoch)
        chunk = args.batch * args.steps_per_report
        self.begin = epoch_begin = due = time.monotonic()
        epoch, epoch_samples, losses = optimizer.local_epoch, 0, []
        while not self.swarm_is_through(epoch_begin) and not lifecycle.stopping():
            losses += self.local_steps(data)
            optimizer.step(batch_size=chunk)  # the last local step; reports progress, averages when the swarm is due
            self.samples, epoch_samples = self.samples + chunk, epoch_samples + chunk
            if optimizer.local_epoch != epoch:
                epoch = optimizer.local_epoch
                self.report_epoch(epoch, sum(losses) / len(losses), epoch_samples / (time.monotonic() - epoch_begin))
                epoch_begin = due = time.monotonic()
                epoch_samples, losses = 0, []
            due += chunk / args.rate
            time.sleep(max(0.0, due - time.monotonic()))

    def local_steps(self, data):
        """Steps of the SGD inside, which Hivemind needn't know one by one; the last one is left to Hivemind."""
        losses = []
        for step in range(self.args.steps_per_report):
            if step:
                self.optimizer.opt.step()
            inputs, targets = next(data)
            self.optimizer.opt.zero_grad()
            loss = cross_entropy(self.model(inputs), targets)
            loss.backward()
            losses.append(loss.item())
        return losses

    def swarm_is_through(self, since):
        """All epochs are done: by us, or by others while we lagged behind (and they may have left since)."""
        if max(self.optimizer.local_epoch, self.optimizer.tracker.global_epoch) >= self.args.epochs:
            return True
        return time.monotonic() - since > 5 and self.swarm.finished(self.args.epochs)

    def report_epoch(self, epoch, loss, speed):
        self.accuracy = accuracy(self.model, self.tests, self.answers)
        report("metrics", epoch=epoch, loss=round(loss, 4), accuracy=self.accuracy, samples=self.samples,
               samples_per_second=round(speed, 1), peers=self.rounds.peers, bytes_sent=self.rounds.bytes_sent)
        print(f"epoch {epoch}/{self.args.epochs}  loss {loss:.3f}  test accuracy {self.accuracy:.3f}  "
              f"{speed:.0f} samples/s  {self.rounds.peers} peers", flush=True)
        if epoch % 5 == 0 and epoch < self.args.epochs:
            self.save()

    def save(self):
        path = save_checkpoint(self.args.checkpoints, self.model, self.optimizer, self.optimizer.local_epoch)
        report("checkpoint", path=str(path), epoch=self.optimizer.local_epoch)
        return path

    def finish(self):
        if self.optimizer.local_epoch < self.args.epochs:  # the others were faster: take over what they ended with
            self.optimizer.load_state_from_peers()
        self.swarm.declare_finished(self.args.epochs)
        result = dict(accuracy=accuracy(self.model, self.tests, self.answers), checkpoint=str(self.save()),
                      epochs=self.optimizer.local_epoch, samples=self.samples, bytes_sent=self.rounds.bytes_sent,
                      seconds=round(time.monotonic() - self.begin, 2))
        if self.index == 0:
            result["accuracy_alone"] = self.alone()
        report("result", **result)
        print(f"result: {result}", flush=True)
        self.swarm.wait_for_others_to_finish(timeout=8)


def main():
    args = options()
    torch.set_num_threads(1)
    worker = Worker(args, int(os.environ.get("HIVEMETAL_WORKER_INDEX", "0")), int(os.environ.get("HIVEMETAL_WORKERS", "1")))
    if args.alone:
        print(f"alone: test accuracy {worker.alone()}", flush=True)
    elif worker.meet():
        worker.train()
        if lifecycle.stopping():
            worker.save()
        else:
            worker.finish()


if __name__ == "__main__":
    lifecycle.run(main)
