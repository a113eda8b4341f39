"""examples/fashion as plain processes: what must hold before any node runs it."""

import os
import signal
import socket
import sys
import time

import pytest

from local_workers import EXAMPLE, LocalSwarm, Listener, alive, kill_tree, tree

sys.path.insert(0, str(EXAMPLE))
FEW = ["--epochs", "6", "--samples-per-epoch", "2048", "--batch", "64"]
WAIT = 120  # generous: machines that test are busy


def wait_for(condition, seconds=WAIT):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def logs(swarm):
    return "\n".join(path.name + "\n" + path.read_text()[-2000:] for path in sorted(swarm.folder.glob("w*.log")))


@pytest.fixture
def helper(monkeypatch, tmp_path):
    import hivemetal_worker
    monkeypatch.setattr(hivemetal_worker, "_connection", None)
    monkeypatch.setenv("HIVEMETAL_SOCKET", str(tmp_path / "node.sock"))
    return hivemetal_worker


def test_report_does_nothing_without_a_node(helper, monkeypatch):
    monkeypatch.delenv("HIVEMETAL_SOCKET")
    assert helper.report("metrics", epoch=1) is False


def test_report_survives_a_missing_socket_and_what_json_cannot_say(helper):
    begin = time.monotonic()
    assert helper.report("metrics", epoch=1) is False
    circle = {}
    circle["me"] = circle
    assert helper.report("note", text=circle) is False
    assert time.monotonic() - begin < 5


def test_report_connects_again_after_the_node_came_back(helper, tmp_path):
    first = Listener(tmp_path / "node.sock")
    assert helper.report("note", text="one")
    wait_for(lambda: first.events, 10)
    first.server.close()
    (tmp_path / "node.sock").unlink()
    helper._connection.shutdown(socket.SHUT_RDWR)  # as the end of the node would
    second = Listener(tmp_path / "node.sock")
    assert helper.report("note", text="two", path=tmp_path)  # anything: what JSON has no word for goes as text
    wait_for(lambda: second.events, 10)
    assert second.events[0]["text"] == "two"
    second.server.close()


def test_a_reader_that_hangs_costs_seconds_and_no_more(helper, tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "node.sock"))
    server.listen()
    begin = time.monotonic()
    results = [helper.report("note", text="x" * 1_000_000) for _ in range(2)]
    assert False in results and time.monotonic() - begin < 10
    server.close()


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
def test_parts_share_no_image_and_leave_no_class_out(workers):
    import train
    _, labels = train.load(train.DATA, "train")
    parts = [train.own_part(labels, worker, workers) for worker in range(workers)]
    every = [int(index) for part in parts for index in part]
    assert len(set(every)) == len(every)
    assert set(labels[every].tolist()) == set(range(10))
    if workers > 1:
        assert all(len(set(labels[part].tolist())) == 5 for part in parts)
    if workers == 4:
        assert len(every) == len(labels)


def test_the_newest_checkpoint_that_can_be_read_is_taken(tmp_path, capsys):
    import torch
    import train
    model = train.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(1, 6):
        train.save_checkpoint(tmp_path, model, optimizer, epoch)
    assert sorted(os.listdir(tmp_path)) == ["epoch-3.pt", "epoch-4.pt", "epoch-5.pt"]
    whole = (tmp_path / "epoch-5.pt").read_bytes()
    (tmp_path / "epoch-5.pt").write_bytes(whole[: len(whole) // 2])  # cut short
    (tmp_path / "epoch-9.pt").write_bytes(b"")
    (tmp_path / "epoch-x.pt").write_bytes(b"no number")
    assert train.load_checkpoint(tmp_path, train.make_model())["epoch"] == 4
    assert "epoch-9.pt" in capsys.readouterr().out
    assert train.load_checkpoint(tmp_path / "nothing", model) is None


@pytest.mark.timeout(300)
def test_two_workers_end_together_with_one_model(tmp_path):
    with LocalSwarm(tmp_path, 2, FEW) as swarm:
        processes = [swarm.start(index) for index in range(2)]
        wait_for(lambda: len(swarm.events("metrics")) >= 2)
        pids = {pid for process in processes for pid in tree(process.pid)}
        wait_for(lambda: all(process.poll() is not None for process in processes))
        assert [process.returncode for process in processes] == [0, 0], logs(swarm)
        assert not [pid for pid in pids if alive(pid)]
        results = {event["worker"]: event for event in swarm.events("result")}
        assert results[0]["epochs"] == results[1]["epochs"] == 6
        assert 0.2 < results[0]["accuracy_alone"] < 0.5 < results[0]["accuracy"]
        assert os.path.exists(results[0]["checkpoint"])
        rounds = [event for event in swarm.events("round") if event["worker"] == 0 and event["ok"]]
        assert rounds and all(r["matchmaking_s"] >= 0 and r["allreduce_s"] >= 0 for r in rounds)
        payload = 2 * (784 * 128 + 128 + 128 * 10 + 10)
        assert results[0]["bytes_sent"] == sum(2 * (r["peers"] - 1) // r["peers"] * payload for r in rounds)


@pytest.mark.timeout(300)
def test_a_worker_told_to_stop_leaves_at_once_and_resumes_later(tmp_path):
    arguments = ["--epochs", "1000", *FEW[2:]]
    with LocalSwarm(tmp_path, 1, arguments) as swarm:
        process = swarm.start(0)
        wait_for(lambda: swarm.epoch() >= 2)
        pids = tree(process.pid)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 143, logs(swarm)
        assert time.monotonic() - begin < 15
        assert not [pid for pid in pids if alive(pid)]
        process = swarm.start(0, attempt=1)
        wait_for(lambda: any("resumed from epoch" in event["text"] for event in swarm.events("note")))


@pytest.mark.timeout(300)
def test_a_killed_worker_comes_back_and_takes_over_the_others_state(tmp_path):
    with LocalSwarm(tmp_path, 2, ["--epochs", "30", "--rate", "2000", *FEW[2:]]) as swarm:
        first, second = swarm.start(0), swarm.start(1)
        wait_for(lambda: swarm.epoch() >= 2)
        kill_tree(second.pid)
        second.wait()
        replacement = swarm.start(1, attempt=1)
        wait_for(lambda: first.poll() is not None and replacement.poll() is not None, 200)
        assert (first.returncode, replacement.returncode) == (0, 0), logs(swarm)
        notes = [event["text"] for event in swarm.events("note") if event["attempt"] == 1]
        assert any("joined at epoch" in text or "had finished" in text for text in notes), notes


@pytest.mark.timeout(120)
def test_an_exception_ends_the_worker_with_all_it_started(tmp_path):
    with LocalSwarm(tmp_path, 2, [*FEW, "--checkpoints", "/dev/null/nowhere", "--rate", "100000"]) as swarm:
        process = swarm.start(0)
        seen = set()
        deadline = time.monotonic() + 100
        while process.poll() is None and time.monotonic() < deadline:
            seen.update(tree(process.pid))
            time.sleep(0.2)
        assert process.returncode == 1, logs(swarm)
        assert not [pid for pid in seen if alive(pid)]
