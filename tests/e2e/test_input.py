"""What a person can get wrong: one message that names the place, the value and what to do, and exit code 2."""

import subprocess
import time

import pytest

from nodes import PROGRAM, Node

GOOD = "name: hello\nkind: task\ncommand: [echo, hello]\n"


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "node", "n")


def message_of(node, *arguments, code=2, seconds=20):
    begin = time.monotonic()
    text = node.cli(*arguments, code=code, text=True)
    assert time.monotonic() - begin < seconds
    assert text.count("\n") == 1 and text.startswith("hivemetal: "), text
    return text


@pytest.mark.parametrize("job, place, remedy", [
    (GOOD + "comand: [x]\n", "job.yaml:4:", "command"),
    (GOOD + "resources: {memory: 4GB}\n", "job.yaml:4:", "GiB"),
    (GOOD + "nodes: {min: -1}\n", "job.yaml:4:", ""),
    (GOOD + "resources: {cpus: -2}\n", "job.yaml:4:", ""),
    (GOOD + "files: [absent.py]\n", "job.yaml:4:", "absent.py"),
    ("name: hello\nkind: task\ncommand: []\n", "job.yaml:3:", "command"),
    ("name: hello\nkind: task\n", "job.yaml", "command"),
    ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n", "job.yaml:1:", ""),
    ("name: \"hello\n", "job.yaml:", ""),
    ("[" * 100_000, "job.yaml", ""),
], ids=["unknown-key", "wrong-unit", "negative", "negative-cpus", "missing-file", "empty-command", "no-command", "bomb", "broken", "deep"])
def test_a_wrong_job_file_is_one_message_with_its_line(node, tmp_path, job, place, remedy):
    (tmp_path / "job.yaml").write_text(job)
    text = message_of(node, "run", tmp_path / "job.yaml")
    assert place in text and remedy in text, text


def test_a_job_file_of_100_mb_is_refused_unread(node, tmp_path):
    with open(tmp_path / "job.yaml", "wb") as file:
        file.truncate(100_000_000)
    assert "job.yaml" in message_of(node, "run", tmp_path / "job.yaml", seconds=5)


def test_a_file_of_100_mb_is_too_much_for_a_job(node, tmp_path):
    with open(tmp_path / "data.bin", "wb") as file:
        file.truncate(100_000_000)
    (tmp_path / "job.yaml").write_text(GOOD + "files: [data.bin]\n")
    assert "MiB" in message_of(node, "run", tmp_path / "job.yaml", seconds=5)


def test_a_job_file_that_is_not_there_is_named(node, tmp_path):
    assert "absent.yaml" in message_of(node, "run", tmp_path / "absent.yaml", code=None)


def test_a_wrong_invite_is_one_message(node):
    for text in ["", "hello", "hm1-", "hm1-AAAA", "x" * 10_000]:
        assert message_of(node, "join", text)


def test_wrong_options_say_so(node):
    for arguments in [["frobnicate"], [], ["run"], ["logs"], ["invite", "--hours", "x"], ["ps", "--colour"]]:
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and done.stderr.startswith("hivemetal: "), (arguments, done)
    assert "--hours" in message_of(node, "invite", "--hours", "-1")


def test_every_verb_has_help_with_an_example():
    for verb in ["swarm create", "invite", "join", "node run", "node list", "run", "ps", "logs", "stop", "top", "explain", "doctor", "version"]:
        done = subprocess.run([PROGRAM, *verb.split(), "--help"], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and f"hivemetal {verb}" in done.stdout and "Example" in done.stdout, (verb, done)


def test_without_a_node_the_message_says_how_to_start_one(node):
    for arguments in [["ps"], ["node", "list"], ["top"], ["stop", "x"], ["logs", "x"], ["explain", "x"]]:
        text = message_of(node, *arguments, code=1)
        assert text == f"hivemetal: no node is running in {node.folder}; start it with: hivemetal node run --dir {node.folder}\n"
    assert node.cli("ps", code=1)["error"]["code"] == "unavailable"


def test_a_node_without_a_swarm_says_how_to_get_one(node):
    text = message_of(node, "node", "run", code=1)
    assert "hivemetal swarm create" in text and "hivemetal join" in text


def test_wrong_settings_name_their_line(node):
    node.cli("swarm", "create", "s")
    assert "command line:1: cpus is '-1'" in message_of(node, "node", "run", "--cpus", "-1")
    assert "no absolute path" in message_of(node, "node", "run", "--environment", "torch=venv")
    (node.folder / "config.yaml").write_text("name: n\ncpu: 2\n")
    assert "config.yaml:2: unknown key 'cpu'; did you mean 'cpus'?" in message_of(node, "node", "run")


def test_a_node_can_have_one_swarm(node):
    assert node.cli("swarm", "create", "mill")["swarm"]["name"] == "mill"
    assert "belongs to the swarm mill already" in message_of(node, "swarm", "create", "other", code=1)


def test_a_directory_of_a_newer_version_is_left_alone(node):
    node.cli("swarm", "create", "mill")
    (node.folder / "version").write_text("99\n")
    before = sorted(path.name for path in node.folder.iterdir())
    assert "newer hivemetal" in message_of(node, "node", "run", code=1)
    assert sorted(path.name for path in node.folder.iterdir()) == before


def test_keys_are_for_their_owner_alone(node):
    node.cli("swarm", "create", "mill")
    for name in ["identity.key", "swarm.key", "swarm.json", "version"]:
        assert (node.folder / name).stat().st_mode & 0o077 == 0, name


def test_the_version_is_told():
    done = subprocess.run([PROGRAM, "version", "--json"], capture_output=True, text=True, timeout=20)
    assert '"version"' in done.stdout
