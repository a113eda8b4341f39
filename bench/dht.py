"""DHT store and get of 8 nodes against stock Hivemind's; needs .venv and the release build, takes 1-2 minutes.

The method of Hivemind's own benchmark_dht.py: in each round up to 8 random peers store one sub-key each under a fresh
key, all at once; when the last is done, 8 random peers get the key (`latest`), all at once. Several threads of
rounds run side by side. Store and get time are the wall times of such a batch. Both sides run their nodes as separate
processes, each with its own p2pd on loopback, and are driven by the same Python code in turns: ours, theirs, ours, …;
only one side is up at a time. Values that come back are compared. The CPU time of everything, p2pd and the driver
included, is what is left of the comparison on a machine that others use too.
"""

import asyncio
import atexit
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

import bench_common

CHILD_SECONDS = 300


def add_arguments(parser) -> None:
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--initial-peers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=16, help="of each thread")
    parser.add_argument("--settle", type=float, default=0,
                        help="seconds between the last node's joining and the first round, on both sides; Hivemind's "
                             "script has none, and p2pd is still busy then")
    parser.add_argument("--repeats", type=int, default=3, help="of each side, in turns")


# ---- the workload, the same for both sides

async def thread_of_rounds(peers: list, rounds: int, times: dict, counts: dict) -> None:
    for _ in range(rounds):
        key = uuid.uuid4().hex
        values = {uuid.uuid4().hex: uuid.uuid4().hex for _ in peers}
        writers = random.sample(peers, len(peers))
        begin = time.perf_counter()
        stored = await asyncio.gather(*(writer.store(key, subkey, value, time.time() + 300)
                                        for writer, (subkey, value) in zip(writers, values.items())))
        times["store"].append(time.perf_counter() - begin)
        counts["stores"] += len(stored)
        counts["stored"] += sum(map(bool, stored))

        readers = random.sample(peers, len(peers))
        begin = time.perf_counter()
        found = await asyncio.gather(*(reader.get(key) for reader in readers))
        times["get"].append(time.perf_counter() - begin)
        counts["gets"] += len(found)
        counts["found"] += sum(result == values for result in found)


async def workload(peers: list, threads: int, rounds: int) -> dict:
    times = {"store": [], "get": []}
    counts = dict.fromkeys(["stores", "stored", "gets", "found"], 0)
    begin = time.perf_counter()
    await asyncio.gather(*(thread_of_rounds(peers, rounds, times, counts) for _ in range(threads)))
    return {"times": times, "counts": counts, "total_s": time.perf_counter() - begin}


# ---- the two sides

class OurPeer:
    """A hivemetal-dht process; commands and answers are lines of JSON."""

    def __init__(self):
        self.answers = {}
        self.last_id = 0

    async def start(self, binary: str, initial_peers: list) -> "OurPeer":
        command = [binary, "--rpc-timeout", "5"]
        for address in initial_peers:
            command += ["--initial-peer", address]
        self.process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24)
        ready = json.loads(await self.process.stdout.readline())
        if ready["event"] != "ready":
            raise RuntimeError(ready["error"])
        self.addresses = ready["addresses"]
        self.reader = asyncio.create_task(self.read())
        return self

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            self.answers.pop(answer["id"]).set_result(answer)

    def ask(self, **command) -> asyncio.Future:
        self.last_id += 1
        answer = self.answers[self.last_id] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps(command | {"id": self.last_id}).encode() + b"\n")
        return answer

    async def store(self, key, subkey, value, expiration) -> bool:
        answer = await self.ask(do="store", key=key, subkey=subkey, value=value, expiration=expiration)
        return answer.get("stored", False)

    async def get(self, key) -> dict | None:
        found = (await self.ask(do="get", key=key, latest=True)).get("found")
        return found and {entry["subkey"]: entry["value"] for entry in found["entries"]}

    async def stop(self) -> None:
        self.process.terminate()
        await self.process.wait()
        self.reader.cancel()


class StockPeer:
    """A hivemind.DHT: a forked process that is reached through a pipe."""

    async def start(self, initial_peers: list) -> "StockPeer":
        import hivemind
        self.dht = hivemind.DHT(initial_peers=initial_peers, start=True, wait_timeout=5)
        self.addresses = [str(address) for address in self.dht.get_visible_maddrs()]
        return self

    async def store(self, key, subkey, value, expiration) -> bool:
        return await self.dht.store(key, value, expiration, subkey=subkey, return_future=True)

    async def get(self, key) -> dict | None:
        found = await self.dht.get(key, latest=True, return_future=True)
        return found and {subkey: item.value for subkey, item in found.value.items()}

    async def stop(self) -> None:
        self.dht.shutdown()


async def one_side(options: dict) -> dict:
    random.seed(options["seed"])
    peers: list = []
    try:
        for _ in range(options["peers"]):
            through = [address for peer in random.sample(peers, min(options["initial_peers"], len(peers)))
                       for address in peer.addresses]
            peers.append(await (OurPeer().start(options["binary"], through) if options["side"] == "ours"
                                else StockPeer().start(through)))
        await asyncio.sleep(options["settle"])
        before = cpu_seconds_of_tree()
        result = await workload(peers, options["threads"], options["rounds"])
        return result | {"cpu_s": cpu_seconds_of_tree() - before}
    finally:
        for peer in peers:
            await peer.stop()


def cpu_seconds_of_tree() -> float:
    """Of this process and all its living descendants."""
    seconds, parents = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    tree, level = set(), {os.getpid()}
    while level:
        tree |= level
        level = {pid for pid, parent in parents.items() if parent in level} - tree
    return sum(seconds[pid] for pid in tree)


# ---- in turns

def run_side(side: str, arguments, seed: int) -> dict:
    """Runs one side in a process of its own, with its own temporary folder."""
    options = {"side": side, "peers": arguments.peers, "initial_peers": arguments.initial_peers, "seed": seed,
               "threads": arguments.threads, "rounds": arguments.rounds, "settle": arguments.settle,
               "binary": str(bench_common.binary("hivemetal-dht"))}
    folder = tempfile.mkdtemp(prefix="hm-bench-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = subprocess.run([bench_common.python(), __file__, json.dumps(options)], stdout=subprocess.PIPE,
                          env=os.environ | {"TMPDIR": folder, "OMP_NUM_THREADS": "1"}, timeout=CHILD_SECONDS,
                          check=True)
    time.sleep(1)  # torch's helper outlives its parent for a moment
    return json.loads(done.stdout.splitlines()[-1])


def summary(results: list) -> dict:
    """Means over all batches of all repeats, as benchmark_dht.py reports them, and the medians."""
    figures = {}
    for what in ("store", "get"):
        times = [seconds for result in results for seconds in result["times"][what]]
        figures[f"{what}_ms_mean"] = round(statistics.mean(times) * 1000, 2)
        figures[f"{what}_ms_median"] = round(statistics.median(times) * 1000, 2)
        figures[f"{what}_ms_max"] = round(max(times) * 1000, 2)
    count = lambda name: sum(result["counts"][name] for result in results)
    figures["stored_share"] = count("stored") / count("stores")
    figures["found_share"] = count("found") / count("gets")
    figures["cpu_s_median"] = round(statistics.median(result["cpu_s"] for result in results), 3)
    figures["total_s_median"] = round(statistics.median(result["total_s"] for result in results), 3)
    return figures


def run(arguments, say) -> dict:
    results = {"ours": [], "stock": []}
    for repeat in range(arguments.repeats):
        for side in ("ours", "stock"):
            result = run_side(side, arguments, seed=30 + repeat)
            results[side].append(result)
            mean = {what: statistics.mean(result["times"][what]) * 1000 for what in ("store", "get")}
            say(f"{side:5} {repeat + 1}/{arguments.repeats}: store {mean['store']:.1f} ms, get {mean['get']:.1f} ms, "
                f"{result['counts']['found']}/{result['counts']['gets']} found")
    ours, stock = summary(results["ours"]), summary(results["stock"])
    return {
        "ratios": {f"{what}_speedup": round(stock[f"{what}_ms_mean"] / ours[f"{what}_ms_mean"], 2)
                   for what in ("store", "get")}
                  | {"cpu_ours_over_hivemind": round(ours["cpu_s_median"] / stock["cpu_s_median"], 4)},
        "figures": {"ours": ours, "hivemind": stock},
        "conditions": {"peers": arguments.peers, "threads": arguments.threads, "rounds": arguments.rounds,
                       "repeats": arguments.repeats, "settle_s": arguments.settle, "hivemind": "1.1.12", "transport": "p2pd on loopback, both sides"},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(one_side(json.loads(sys.argv[1])))), flush=True)
    os._exit(0)
