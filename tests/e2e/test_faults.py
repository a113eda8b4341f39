"""What breaks, on purpose: and the run goes on."""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

from nodes import OVER, Node, command_line, kill, processes_of, wait_until
from test_swarm import job, shell

pytestmark = pytest.mark.timeout(150)

# A worker whose node is silent for two seconds counts as lost; here it has no other place to go, and goes on when its
# node is back.
ROOM_FOR_ONE = "cpus: 0.25\nmemory: 512MiB\n"
COUNTING = "i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit {code}"


def workers_of(node, run):
    return {worker["worker"]: worker for worker in node.run(run)["workers"]}


def test_two_daemons_cannot_share_a_directory(make_swarm):
    node = make_swarm(1).nodes[0]
    text = node.cli("node", "run", code=1, text=True)
    assert f"another hivemetal node (pid {node.process.pid}) uses {node.folder}" in text
    assert node.about()["pid"] == node.process.pid


def test_a_port_that_is_taken_is_named(make_swarm):
    node = make_swarm(1, start=False).nodes[0]
    node.cli("swarm", "create", "test")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = node.cli("node", "run", "--listen", f"/ip4/127.0.0.1/tcp/{port}", code=1, text=True)
    assert str(port) in text.splitlines()[-1], text


def test_a_node_keeps_its_port_and_finds_the_swarm_again(make_swarm):
    swarm = make_swarm(2)
    first, second = swarm.nodes
    for node in (second, first):
        before = node.about()
        node.stop()
        node.start()
        after = node.about()
        assert after["addresses"] == before["addresses"] and after["peer"] == before["peer"]
        swarm.wait_complete()


def test_a_node_starts_without_its_swarm_and_joins_when_it_is_back(make_swarm):
    swarm = make_swarm(2)
    first, second = swarm.nodes
    first.stop()
    second.stop()
    second.start()
    assert len(second.get("/v1/nodes")["nodes"]) == 1
    first.start()
    swarm.wait_complete()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_said_so(make_swarm):
    swarm = make_swarm(1, start=False)
    node = swarm.nodes[0]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0711", "tmpfs", node.folder], check=True)
    try:
        node.cli("swarm", "create", "test")
        with open(node.folder / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        text = node.cli("node", "run", code=1, text=True)
        assert "the disk is full; free some space" in text.splitlines()[-1], text
        found = node.cli("doctor", code=1)["findings"]
        assert [one for one in found if one["check"] == "disk" and one["blocks"]], found
        (node.folder / "fill").unlink()
        node.start()
        node.stop()
    finally:
        wait_until(lambda: subprocess.run(["umount", node.folder]).returncode == 0, 10, "unmounted", 0.2)


def test_a_clock_that_is_off_by_an_hour_is_said_so(make_swarm):
    swarm = make_swarm(2, start=False)
    first, second = swarm.nodes
    first.cli("swarm", "create", "test")
    first.start()
    second.cli("join", first.cli("invite")["invite"])
    second.start("--clock-offset", "3600")
    found = second.cli("doctor", code=1)["findings"]
    clock = [one for one in found if one["check"] == "clock"]
    assert clock and clock[0]["blocks"] and "3600 s ahead" in clock[0]["finding"] and "expire" in clock[0]["finding"], found
    assert "clock" in second.output()
    assert first.about()["network"]["up"]


def test_p2pd_comes_back_in_three_seconds_and_the_run_goes_on(make_swarm):
    swarm = make_swarm(3, ROOM_FOR_ONE)
    node = swarm.nodes[0]
    run = node.submit(shell(COUNTING.format(count=100, code=0), workers=3))
    node.wait_running(run, 3)
    for victim in (swarm.nodes[0], swarm.nodes[1]):
        pid = victim.about()["network"]["pid"]
        begin = time.monotonic()
        kill([pid])
        wait_until(lambda: victim.about()["network"]["pid"] not in (0, pid) and victim.about()["network"]["up"], 10, "p2pd is back")
        assert time.monotonic() - begin <= 3
        assert victim.about()["network"]["restarts"] == 1
    state = node.wait_over(run)
    assert state["state"] == "finished", state
    assert all(worker["attempt"].endswith(".1") for worker in state["workers"]), state
    lines = node.cli("logs", run, text=True).splitlines()
    assert sorted(lines) == sorted(f"[{w}] {i}" for w in range(3) for i in range(100))


def test_a_killed_daemon_leaves_workers_and_logs_alone(make_swarm):
    swarm = make_swarm(2, ROOM_FOR_ONE)
    node, other = swarm.nodes
    run = node.submit(shell(COUNTING.format(count=100, code=0), workers=2, extra="restart: {max: 0}\n"))
    node.wait_running(run, 2)
    follower = node.spawn("logs", "-f", run)
    pids = {w["pid"] for w in node.run(run)["workers"]}
    for victim in (other, node):
        time.sleep(1)
        victim.kill()
        time.sleep(0.5)
        assert all(pathlib.Path(f"/proc/{pid}").exists() for pid in pids), f"workers live on: {node.output()}{other.output()}"
        victim.start()
    state = node.wait_over(run)
    assert {w["exit"] for w in state["workers"]} == {"exit code 0"}, state
    assert all(worker["attempt"].endswith(".1") for worker in state["workers"]), state
    out, err = follower.communicate(timeout=30)
    assert follower.returncode == 0, err
    for worker in (0, 1):
        assert [line for line in out.splitlines() if line.startswith(f"[{worker}]")] == [f"[{worker}] {i}" for i in range(100)]


def test_an_exit_while_the_daemon_is_away_is_known_afterwards(make_swarm):
    node = make_swarm(1).nodes[0]
    run = node.submit(shell("sleep 1.5; echo bye; exit 5", workers=1, extra="restart: {max: 0}\n"))
    node.wait_running(run, 1)
    node.kill()
    wait_until(lambda: not processes_of(run), 20, "the worker has ended")
    node.start()
    state = node.wait_over(run)
    assert state["workers"][0]["exit"] == "exit code 5", state
    assert node.cli("logs", run, text=True) == "[0] bye\n"


def test_a_killed_worker_is_replaced(make_swarm):
    swarm = make_swarm(3)
    node = swarm.nodes[0]
    run = node.submit(shell("echo begun; sleep 60", workers=2, extra="restart: {max: 3, backoff: 0s}\n"))
    victim = node.wait_running(run, 2)["workers"][1]
    killed = time.time()
    kill([victim["pid"]])
    ended = wait_until(lambda: node.events(run, "ended"), 10, "the end is noticed")[0]
    assert ended["time"] - killed <= 2, ended
    wait_until(lambda: node.events(run, "replaced"), 20, "the worker is replaced")
    after = node.wait_running(run, 2)
    assert workers_of(node, run)[1]["pid"] != victim["pid"] and workers_of(node, run)[1]["restarts"] == 1, after
    page = node.cli("explain", run, text=True)
    assert "recovery of worker 1" in page, page
    assert node.cli("stop", run)["state"] == "stopped"


def test_a_lost_node_is_noticed_within_two_seconds_and_its_worker_replaced(make_swarm):
    swarm = make_swarm(4)
    node = swarm.nodes[0]
    run = node.submit(shell("echo begun; sleep 60", workers=3))
    state = node.wait_running(run, 3)
    worker = next(w for w in state["workers"] if w["node_name"] != "n0")
    victim = next(one for one in swarm.nodes if one.name == worker["node_name"])
    killed = time.time()
    victim.lose()
    swarm.broken = True
    lost = wait_until(lambda: node.events(run, "lost"), 10, "the loss is noticed")[0]
    assert lost["time"] - killed <= 2, lost
    assert lost["worker"] == worker["worker"]
    wait_until(lambda: node.events(run, "replaced"), 20, "the worker is replaced")
    node.wait_running(run, 3)
    assert workers_of(node, run)[worker["worker"]]["node_name"] != victim.name
    assert node.cli("stop", run)["state"] == "stopped"


def test_peers_that_send_garbage_are_dropped_and_counted(swarm):
    hivemind_p2p = pytest.importorskip("hivemind.p2p")
    node = swarm.nodes[0]
    before = node.about()

    async def attack():
        p2p = await hivemind_p2p.P2P.create(initial_peers=before["addresses"])
        try:
            peer = hivemind_p2p.PeerID.from_base58(before["peer"])
            handles = [f"HivemetalNode.rpc_{name}" for name in ("offer", "lease", "renew", "stop", "log", "ping")]
            handles += [f"DHTProtocol.rpc_{name}" for name in ("ping", "store", "find")]
            for handle in handles:
                for junk in [b"\xff" * 100, os.urandom(4096), b"\x0a\xff\xff\xff\xff\x0f", b"\x00" * 1_000_000]:
                    with contextlib.suppress(Exception):
                        await asyncio.wait_for(p2p._client.call_unary_handler(peer, handle, junk), 5)
            for protocol in handles + ["no-such-protocol"]:
                with contextlib.suppress(Exception):
                    _, reader, writer = await asyncio.wait_for(p2p._client.stream_open(peer, [protocol]), 5)
                    writer.write(os.urandom(1 << 20))
                    writer.close()
        finally:
            await p2p.shutdown()

    asyncio.run(attack())
    after = node.about()
    assert after["pid"] == before["pid"] and after["network"]["up"]
    assert after["rejected_requests"] > before["rejected_requests"], (before, after)
    run = node.submit(shell("true", workers=2))
    assert node.wait_over(run)["state"] == "finished"
    assert node.output().count("\n") < 500, "what peers provoke does not fill the log"


def test_a_worker_that_floods_its_socket_is_dropped_and_counted(swarm):
    node = swarm.nodes[0]
    folder = node.folder / "flood"
    folder.mkdir(exist_ok=True)
    (folder / "flood.py").write_text(
        "import os, socket\n"
        "s = socket.socket(socket.AF_UNIX)\ns.connect(os.environ['HIVEMETAL_SOCKET'])\n"
        "s.sendall(b'{\"event\":\"note\",\"text\":\"x\"}\\n' * 20000 + b'[' * 1000000 + b'\\n')\n"
        "s.sendall(b'{\"event\":\"note\",\"text\":\"last\"}')\n")
    run = node.submit(job(["python3", "flood.py"], workers=1, extra="files: [flood.py]\n"), folder)
    state = node.wait_over(run)
    assert state["state"] == "finished", node.cli("logs", run, text=True)
    host = next(one for one in swarm.nodes if one.name == state["workers"][0]["node_name"])
    assert host.about()["dropped_worker_lines"] > 10_000
    assert len(node.events(run, "note")) < 2_000


def test_a_second_daemon_of_the_same_name_is_another_node(make_swarm):
    swarm = make_swarm(2, settings="cpus: 1\nmemory: 512MiB\n")
    twin = Node(swarm.folder / "twin", "n0", "cpus: 1\nmemory: 512MiB\n")
    twin.cli("join", swarm.nodes[0].cli("invite")["invite"])
    swarm.nodes.append(twin)
    twin.start()
    swarm.wait_complete()
    assert sorted(one["name"] for one in twin.get("/v1/nodes")["nodes"]) == ["n0", "n0", "n1"]


def test_a_stopped_daemon_leaves_workers_for_the_next(make_swarm):
    node = make_swarm(1).nodes[0]
    run = node.submit(shell(COUNTING.format(count=60, code=0), workers=1))
    pid = node.wait_running(run, 1)["workers"][0]["pid"]
    node.stop()
    assert pathlib.Path(f"/proc/{pid}").exists()
    node.start()
    state = node.wait_over(run)
    assert state["state"] == "finished" and state["workers"][0]["restarts"] == 0, state
    assert node.cli("logs", run, text=True).splitlines() == [f"[0] {i}" for i in range(60)]
