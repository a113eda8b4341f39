"""How long things take to start, and what a node at rest weighs; needs the release build, takes 20 s.

guard_over_spawn_ms  a start under a guard (user, cgroups, records on disk) minus a plain posix_spawn of the same
                     program, medians of 200 each in shuffled blocks; bar: at most 3
node_ready_s         `hivemetal node run` from exec to the line `ready`, median of --nodes starts
node_rss_mib         memory of the node's own process 3 s later; p2pd, a child of it, is in p2pd_rss_mib

Needs the release preset: cmake --preset release && ninja -C build/release bench-start hivemetal hivemetal-guard.
"""

import json
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BAR_MS = 3.0


def guarded_start(build: pathlib.Path, count: int) -> dict:
    """Runs bench-start and returns its object."""
    with tempfile.TemporaryDirectory(prefix="hivemetal-bench-") as folder:
        os.chmod(folder, 0o711)
        done = subprocess.run([build / "bin/bench-start", folder, str(count)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"bench-start failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def rss_mib(pid: int) -> float:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[tuple[int, str]]:
    """Child processes as (pid, name)."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        if int(text[text.rindex(")") + 2 :].split()[1]) == pid:
            found.append((int(path.parent.name), name))
    return found


def await_ready(process: subprocess.Popen, log: pathlib.Path, timeout: float) -> None:
    """Returns when the node has printed a line that begins with `ready`."""
    end = time.monotonic() + timeout
    text = b""
    while time.monotonic() < end:
        readable, _, _ = select.select([process.stdout], [], [], 0.05)
        if readable:
            got = os.read(process.stdout.fileno(), 65536)
            text += got
            if not got and process.poll() is not None:
                break
        if any(line.startswith(b"ready") for line in text.splitlines()):
            return
    tail = text.decode(errors="replace")[-500:] + log.read_text(errors="replace")[-1500:]
    raise RuntimeError(f"the node did not print `ready` within {timeout:.0f} s:\n{tail}")


def node_start(build: pathlib.Path) -> dict:
    """Starts a node in a folder of its own, reads its figures and ends it."""
    with tempfile.TemporaryDirectory(prefix="hivemetal-bench-") as folder:
        os.chmod(folder, 0o711)
        node, log = pathlib.Path(folder) / "node", pathlib.Path(folder) / "stderr"
        subprocess.run([build / "bin/hivemetal", "swarm", "create", "bench", "--dir", node], check=True, capture_output=True)
        with log.open("wb") as errors:
            begin = time.monotonic()
            process = subprocess.Popen([build / "bin/hivemetal", "node", "run", "--dir", node],
                                       stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        try:
            await_ready(process, log, 30)
            ready = time.monotonic() - begin
            time.sleep(3)
            p2pd = [rss_mib(pid) for pid, name in children(process.pid) if name.startswith("p2pd")]
            return {"node_ready_s": ready, "node_rss_mib": rss_mib(process.pid), "p2pd_rss_mib": sum(p2pd)}
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()


def add_arguments(parser) -> None:
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="build folder")
    parser.add_argument("--count", type=int, default=200, help="starts of each kind")
    parser.add_argument("--nodes", type=int, default=3, help="node starts; 0 leaves them out")


def run(arguments, say) -> dict:
    starts = guarded_start(arguments.build, arguments.count)
    ratios = {"guard_over_spawn_ms": starts["guard_ms"]["median"] - starts["spawn_ms"]["median"]}
    figures = {"guard_to_end_over_spawn_ms": starts["guard_to_end_ms"]["median"] - starts["spawn_to_end_ms"]["median"],
               "spawn_ms": starts["spawn_ms"]["median"], "guard_ms": starts["guard_ms"]["median"],
               "guard_ms_p90": starts["guard_ms"]["p90"], "starts": starts["guard_ms"]["count"]}
    say(f"guarded start   {figures['guard_ms']:.2f} ms (p90 {figures['guard_ms_p90']:.2f}), plain posix_spawn "
        f"{figures['spawn_ms']:.2f} ms: {ratios['guard_over_spawn_ms']:.2f} ms more (bar {BAR_MS:.0f})")
    nodes = [node_start(arguments.build) for _ in range(arguments.nodes)]
    for key in ("node_ready_s", "node_rss_mib", "p2pd_rss_mib") if nodes else ():
        figures[key] = statistics.median(node[key] for node in nodes)
    if nodes:
        say(f"node            ready after {figures['node_ready_s']:.2f} s, {figures['node_rss_mib']:.1f} MiB, "
            f"p2pd {figures['p2pd_rss_mib']:.1f} MiB")
    rounded = lambda values: {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
    return {"ratios": rounded(ratios), "figures": rounded(figures), "conditions": {"with_root": starts["privileged"]}}
