"""Runs last: what all tests before it, and the daemons they started and killed, have left behind."""

import pathlib

from nodes import ATTEMPTS, cgroups, command_line, environment


def test_nothing_left_behind():
    left = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            said = command_line(entry.name) + environment(entry.name)
            if "/tmp/hm-" in said:
                left.append(f"process {entry.name}: {said[:200]}")
    left += [f"cgroup {path}" for path in cgroups(ATTEMPTS)]
    left += [f"file {path}" for path in pathlib.Path("/tmp").glob("hm-*")]
    assert not left, "\n".join(left)
