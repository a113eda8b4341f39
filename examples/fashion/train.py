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
    dht = hivemind.DHT(initial_peers=peers, host_maddrs=[host], start=True)
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


def swarm_is_through(args, optimizer, swarm, since):
    """All epochs are done: ours, or those of others while we lag behind (and they may have left since)."""
    if max(optimizer.local_epoch, optimizer.tracker.global_epoch) >= args.epochs:
        return True
    return time.monotonic() - since > 5 and swarm.finished(args.epochs)


def train(args, worker, workers):
    run_id = os.environ.get("HIVEMETAL_RUN_ID", "fashion")
    images, labels = load(args.data, "train")
    tests, answers = load(args.data, "t10k")
    own = own_part(labels, worker, workers)
    model = make_model()

    if args.alone:
        model = train_alone(args, images, labels, own, args.epochs * args.samples_per_epoch // workers)
        print(f"alone: test accuracy {accuracy(model, tests, answers)}", flush=True)
        return

    saved = load_checkpoint(args.checkpoints, model)
    dht, optimizer = join(args, model, run_id, workers)
    lifecycle.on_exit(optimizer.shutdown, dht.shutdown)
    swarm = lifecycle.Swarm(dht, run_id, workers)
    if swarm.finished(args.epochs):
        report("note", text="the run had finished before this worker came")
        return
    if saved:
        optimizer.load_state_dict({**saved["optimizer"]})
        report("note", text=f"resumed from epoch {saved['epoch']}")
    begin = time.monotonic()
    seen = swarm.wait_for_all(lambda: optimizer.tracker.global_epoch > 0, timeout=20)
    report("note", text=f"{seen} of {workers} workers ready after {time.monotonic() - begin:.1f} s")
    if optimizer.tracker.global_epoch > optimizer.local_epoch:
        optimizer.load_state_from_peers()  # the others are ahead: take over where they are
        report("note", text=f"joined at epoch {optimizer.local_epoch}")

    payload = 2 * sum(p.numel() for p in model.parameters())  # in float16
    watch = RoundWatch(lambda r: report("round", epoch=optimizer.local_epoch, **r), payload, timeout=5.0)
    inner = optimizer.opt  # the SGD inside
    data = batches(images, labels, own, args.batch, seed=worker + 1000 * optimizer.local_epoch)
    chunk = args.batch * args.steps_per_report
    samples, epoch, path, begin, losses, score = 0, optimizer.local_epoch, None, time.monotonic(), [], 0.0
    epoch_begin, epoch_samples, due = begin, 0, begin
    while not swarm_is_through(args, optimizer, swarm, epoch_begin) and not lifecycle.stopping():
        for step in range(args.steps_per_report):
            inputs, targets = next(data)
            inner.zero_grad()
            loss = cross_entropy(model(inputs), targets)
            loss.backward()
            losses.append(loss.item())
            if step + 1 < args.steps_per_report:
                inner.step()
        optimizer.step(batch_size=chunk)  # the last local step; reports progress, averages when the swarm is due
        samples += chunk
        if optimizer.local_epoch != epoch:
            epoch, now = optimizer.local_epoch, time.monotonic()
            score = accuracy(model, tests, answers)
            speed = (samples - epoch_samples) / (now - epoch_begin)
            mean_loss = sum(losses) / len(losses)
            report("metrics", epoch=epoch, loss=round(mean_loss, 4), accuracy=score, samples=samples,
                   samples_per_second=round(speed, 1), peers=watch.peers, bytes_sent=watch.bytes_sent)
            print(f"epoch {epoch}/{args.epochs}  loss {mean_loss:.3f}  test accuracy {score:.3f}  "
                  f"{speed:.0f} samples/s  {watch.peers} peers", flush=True)
            if epoch % 5 == 0 or epoch >= args.epochs:
                path = save_checkpoint(args.checkpoints, model, optimizer, epoch)
                report("checkpoint", path=str(path), epoch=epoch)
            epoch_begin, epoch_samples, losses, due = time.monotonic(), samples, [], time.monotonic()
        due += chunk / args.rate
        time.sleep(max(0.0, due - time.monotonic()))

    if lifecycle.stopping():
        save_checkpoint(args.checkpoints, model, optimizer, optimizer.local_epoch)
        return
    if optimizer.local_epoch < args.epochs:  # the others were faster: take over what they ended with
        optimizer.load_state_from_peers()
        score = accuracy(model, tests, answers)
    swarm.declare_finished(args.epochs)
    result = dict(accuracy=score, checkpoint=str(path), epochs=optimizer.local_epoch, samples=samples,
                  bytes_sent=watch.bytes_sent, seconds=round(time.monotonic() - begin, 2))
    if worker == 0:
        own_share = args.epochs * args.samples_per_epoch // workers
        result["accuracy_alone"] = accuracy(train_alone(args, images, labels, own, own_share), tests, answers)
    report("result", **result)
    print(f"result: {result}", flush=True)
    swarm.wait_for_others_to_finish(timeout=8)


def main():
    args = options()
    worker = int(os.environ.get("HIVEMETAL_WORKER_INDEX", "0"))
    workers = int(os.environ.get("HIVEMETAL_WORKERS", "1"))
    torch.set_num_threads(1)
    train(args, worker, workers)


if __name__ == "__main__":
    lifecycle.run(main)
