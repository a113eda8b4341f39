"""Runs last: what all tests before it, and the daemons they started and killed, have left behind."""

from nodes import ATTEMPTS, FOLDERS, cgroups, command_line, processes_of


def test_nothing_left_behind():
    left = [f"file {folder}" for folder in FOLDERS if folder.exists()]
    for folder in FOLDERS:
        left += [f"process {pid}: {command_line(pid)[:200]}" for pid in processes_of(folder)]
    left += [f"cgroup {path}" for path in cgroups(ATTEMPTS)]
    assert not left, "\n".join(left)
