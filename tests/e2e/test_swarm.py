"""A swarm of real daemons on loopback does what a person asks of it."""

import json
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from nodes import OVER, PROGRAM, Node, processes_of, wait_until

pytestmark = pytest.mark.timeout(120)


def job(command, workers=2, extra=""):
    return f"name: test\nkind: task\nnodes: {{min: {workers}, max: {workers}}}\nresources: {{cpus: 0.25, memory: 128MiB}}\ncommand: {json.dumps(command)}\nstop: {{grace: 1s}}\n{extra}"


def shell(script, workers=2, extra=""):
    return job(["sh", "-c", script], workers, extra)


def test_every_node_knows_all_nodes(swarm):
    for node in swarm.nodes:
        found = node.cli("node", "list")["nodes"]
        assert {one["name"] for one in found} == {"n0", "n1", "n2"}
        assert [one["name"] for one in found if one["self"]] == [node.name]
        assert all(one["cpus_total"] == 4 and one["memory_total"] == 2 << 30 for one in found)
    assert "n1" in swarm.nodes[0].cli("node", "list", text=True)


def test_a_job_runs_to_its_end_on_several_nodes(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell('echo "hello from $HIVEMETAL_WORKER_INDEX of $HIVEMETAL_WORKERS"; echo oops >&2', workers=3))
    state = node.wait_over(run)
    assert state["state"] == "finished", state
    assert len({worker["node"] for worker in state["workers"]}) == 3, "one worker per node"
    lines = sorted(node.cli("logs", run, text=True).splitlines())
    assert lines == sorted(f"[{i}] {text}" for i in range(3) for text in (f"hello from {i} of 3", "oops"))
    listed = node.cli("ps")["runs"]
    assert [one["state"] for one in listed if one["id"] == run] == ["finished"]
    assert run in node.cli("ps", text=True)
    assert all(one["id"] != run for one in swarm.nodes[1].cli("ps")["runs"]), "a run belongs to the node it was submitted at"


def test_a_worker_finds_the_swarm_and_its_files(swarm):
    node = swarm.nodes[1]
    folder = node.folder / "job-files"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/data.txt").write_text("forty-two\n")
    (folder / "main.py").write_text(textwrap.dedent("""\
        import json, os, socket
        print(open("lib/data.txt").read().strip())
        assert os.environ["HIVEMETAL_RUN_ID"] and os.environ["HIVEMETAL_NODE"]
        peers = os.environ["HIVEMETAL_INITIAL_PEERS"].split(",")
        assert peers and all(peer.startswith("/ip4/127.0.0.1/tcp/") and "/p2p/" in peer for peer in peers), peers
        checkpoints = os.environ["HIVEMETAL_CHECKPOINTS"]
        open(os.path.join(checkpoints, "x"), "w").write("y")
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.environ["HIVEMETAL_SOCKET"])
        events = [{"event": "metrics", "epoch": 3, "loss": 0.5, "accuracy": 0.8, "samples": 4096, "samples_per_second": 900.0, "peers": 2},
                  {"event": "round", "epoch": 3, "kind": "gradients", "matchmaking_s": 0.2, "allreduce_s": 0.1, "peers": 2, "ok": True},
                  {"event": "note", "text": "hello\\x1b[2J"}]
        connection.sendall(b"no json\\n" + b"".join(json.dumps(event).encode() + b"\\n" for event in events))
        connection.close()
        """))
    run = node.submit(job(["python3", "main.py"], extra="files: [main.py, lib/data.txt]\n"), folder)
    state = node.wait_over(run)
    assert state["state"] == "finished", (state, node.cli("logs", run, text=True))
    assert all(worker["metrics"]["loss"] == 0.5 for worker in state["workers"])
    assert {event["worker"] for event in node.events(run, "metrics")} == {0, 1}
    page = node.cli("explain", run, text=True)
    for part in ["submitted", "offers", "placed", "score", "started", "round", "matchmaking 0.20 s", "\\x1b[2J", "finished"]:
        assert part in page, page
    assert "\x1b" not in page and page.count("\n") < 60
    explained = node.cli("explain", run)
    assert explained["run"]["id"] == run and explained["events"][0]["kind"] == "submitted"
    assert [event["sequence"] for event in explained["events"]] == list(range(1, len(explained["events"]) + 1))


def test_logs_follow_to_the_end_complete_and_in_order(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell("i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); [ $((i%50)) -eq 0 ] && sleep 0.2; done; true"))
    done = node.spawn("logs", "-f", run)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    for worker in (0, 1):
        assert [line for line in out.splitlines() if line.startswith(f"[{worker}]")] == [f"[{worker}] line {i}" for i in range(300)]
    one = node.cli("logs", run, "--worker", "1", text=True)
    assert one.splitlines() == [f"line {i}" for i in range(300)]
    frames = node.cli("logs", run, "--worker", "1")
    assert "".join(frame["text"] for frame in (frames if isinstance(frames, list) else [frames])) == one
    assert "no worker 7" in node.cli("logs", run, "--worker", "7", text=True, code=1)


def test_logs_cannot_take_the_terminal_over(swarm):
    node = swarm.nodes[0]
    run = node.submit(job(["printf", "\\033[2J\\033]0;title\\007 bell\\n"], workers=1))
    node.wait_over(run)
    assert node.cli("logs", run, text=True) == "[0] \\x1b[2J\\x1b]0;title\\x07 bell\n"


def test_stop_ends_every_process_of_a_run(swarm):
    node = swarm.nodes[0]
    # Deaf to TERM, with children that left their session.
    run = node.submit(shell("trap '' TERM; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; while :; do sleep 1; done", workers=3))
    node.wait_running(run, 3)
    wait_until(lambda: len(processes_of(run)) >= 6, 10, "the processes of the run")
    begin = time.monotonic()
    assert node.cli("stop", run)["state"] == "stopped"
    assert time.monotonic() - begin < 10
    wait_until(lambda: not processes_of(run), 5, "no process is left")
    assert node.cli("stop", run)["state"] == "stopped", "stopping twice is fine"


def test_a_run_whose_command_fails_ends_as_failed(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell("echo broken; exit 3", workers=1, extra="restart: {max: 1, backoff: 0s}\n"))
    state = node.wait_over(run)
    assert state["state"] == "failed" and "3" in state["workers"][0]["exit"], state
    assert state["workers"][0]["restarts"] == 1
    assert node.cli("logs", run, text=True).count("broken") == 2


def test_a_command_that_does_not_exist_is_named(swarm):
    node = swarm.nodes[0]
    run = node.submit(job(["no-such-program"], workers=1, extra="restart: {max: 0}\n"))
    state = node.wait_over(run)
    assert state["state"] == "failed"
    assert "no-such-program" in json.dumps(node.events(run)), node.events(run)


def test_run_follows_until_the_end(swarm):
    node = swarm.nodes[2]
    file = node.folder / "follow.yaml"
    file.write_text(shell("sleep 0.5; true"))
    text = node.cli("run", file, "--follow", text=True)
    for part in ["submitted", "placed", "started", "finished"]:
        assert part in text, text
    file.write_text(shell("exit 1", workers=1, extra="restart: {max: 0}\n"))
    assert "failed" in node.cli("run", file, "--follow", text=True, code=1)


def test_top_shows_nodes_and_workers_once_or_live(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell("sleep 30"))
    node.wait_running(run, 2)
    text = node.cli("top", "--once", text=True)
    assert "n0" in text and run in text and text.count("running") >= 3 and "\x1b" not in text, text
    shot = node.cli("top", run)
    assert {one["name"] for one in shot["nodes"]} == {"n0", "n1", "n2"} and shot["runs"][0]["id"] == run
    # On a terminal it redraws, and ends by q with the terminal as it was.
    live = subprocess.Popen(["script", "-qefc", f"{PROGRAM} top --dir {node.folder}", "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(2.5)
    live.stdin.write(b"q")
    live.stdin.flush()
    out = live.communicate(timeout=20)[0].decode()
    assert live.returncode == 0 and out.count("\x1b[H") >= 2 and out.rstrip().endswith("\x1b[?25h"), out[-200:]
    assert node.cli("stop", run)["state"] == "stopped"


def test_ctrl_c_leaves_a_followed_run_alone(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell("echo begun; sleep 60"))
    follower = node.spawn("logs", "-f", run)
    assert follower.stdout.readline().endswith("begun\n")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    follower.stdout.close(), follower.stderr.close()
    assert node.run(run)["state"] == "running"
    node.cli("stop", run)


def test_what_does_not_exist_is_named(swarm):
    node = swarm.nodes[0]
    for verb in ["logs", "stop", "explain", "top"]:
        text = node.cli(verb, "no-such-run", text=True, code=1)
        assert "no-such-run" in text and text.count("\n") == 1, text


def test_more_workers_than_the_swarm_has_room_for_wait_with_a_reason(swarm):
    node = swarm.nodes[0]
    run = node.submit(shell("sleep 30", workers=2).replace("cpus: 0.25", "cpus: 99"))
    reason = wait_until(lambda: node.run(run)["reason"], 15, "a reason")
    assert node.run(run)["state"] == "waiting" and reason, node.run(run)
    assert node.cli("stop", run)["state"] == "stopped"


def test_an_invite_of_another_swarm_or_of_yesterday_is_refused(swarm, tmp_path):
    other = Node(tmp_path / "other", "other")
    other.cli("swarm", "create", "other")
    invite = swarm.nodes[0].cli("invite")["invite"]
    text = other.cli("join", invite, code=2, text=True)
    assert text.count("\n") == 1 and "swarm" in text, text
    fresh = Node(tmp_path / "fresh", "fresh")
    text = fresh.cli("join", invite, "--clock-offset", str(25 * 3600), code=2, text=True)
    assert "expired" in text and text.count("\n") == 1, text
    text = fresh.cli("join", invite[:-20], code=2, text=True)
    assert text.count("\n") == 1, text
    assert fresh.cli("join", invite)["swarm"]["name"] == "test"
    assert invite[20:60] not in "".join(node.output() for node in swarm.nodes), "invites are not logged"


def test_doctor_finds_nothing_that_blocks_a_running_node(swarm):
    found = swarm.nodes[0].cli("doctor", code=None)
    assert [one for one in found["findings"] if one["blocks"]] == [], found
    assert "node" in found["checked"]


def test_the_owner_is_the_only_one_who_may_ask(swarm):
    if __import__("os").geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    node = swarm.nodes[0]
    assert (node.folder / "node.sock").stat().st_mode & 0o077 == 0
    done = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c",
                           f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(node.folder / 'node.sock')!r})"],
                          capture_output=True, text=True, timeout=20)
    assert "PermissionError" in done.stderr, done
