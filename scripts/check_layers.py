#!/usr/bin/env python3
"""Checks that includes point down.

src/CMakeLists.txt says what each module depends on. A file below src/X/ may include headers of X, of the modules X
depends on directly, and nothing else of ours; a test may also include what its module lists as TEST_DEPENDS. The
declared dependencies must follow the levels below, which are those of ARCHITECTURE.md.

Prints one line per violation and exits 1 if there is one.
"""

import pathlib
import re
import sys

LEVEL = {
    "base": 1,
    "codec": 2, "wire": 2, "job": 2, "identity": 2,
    "p2p": 3,
    "dht": 4, "store": 4,
    "runner": 5,
    "averaging": 6, "scheduler": 6, "gateway": 6, "nunet": 6,
    "node": 7,
}
BESIDE = {"sim"}  # linked into tests and benchmarks only
ROOT = pathlib.Path(__file__).resolve().parent.parent


def modules(cmake: str) -> dict[str, dict[str, set[str]]]:
    """Maps each module to its DEPENDS and TEST_DEPENDS."""
    found = {}
    for body in re.findall(r"^hivemetal_module\((.*?)\)", cmake, re.S | re.M):
        words = body.split()
        lists: dict[str, set[str]] = {"DEPENDS": set(), "TEST_DEPENDS": set(), "LIBRARIES": set()}
        current = None
        for word in words[1:]:
            if word in lists:
                current = word
            elif current:
                lists[current].add(word)
        found[words[0]] = lists
    return found


def check(root: pathlib.Path = ROOT) -> list[str]:
    source = root / "src"
    declared = modules((source / "CMakeLists.txt").read_text())
    problems = []
    for module, lists in declared.items():
        if module not in LEVEL and module not in BESIDE:
            problems.append(f"src/CMakeLists.txt: module {module} has no level in scripts/check_layers.py")
        for other in lists["DEPENDS"]:
            if other in BESIDE:
                problems.append(f"src/CMakeLists.txt: {module} depends on {other}, which only tests may use")
            elif module in LEVEL and LEVEL.get(other, 99) >= LEVEL[module]:
                problems.append(f"src/CMakeLists.txt: {module} depends on {other}, which is not below it")
    for path in sorted(source.rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        relative = path.relative_to(source)
        module = relative.parts[0]
        if module not in declared:
            problems.append(f"src/{relative}: the folder {module} is no module in src/CMakeLists.txt")
            continue
        allowed = {module} | declared[module]["DEPENDS"]
        if re.search(r"_(test|bench|fuzz)\.(cpp|h)$", path.name):
            allowed |= declared[module]["TEST_DEPENDS"]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#include "([^/"]+)/', line)
            if match and match[1] not in allowed:
                problems.append(f"src/{relative}:{number}: {module} may not include {match[1]}")
    return problems


if __name__ == "__main__":
    found = check()
    print("\n".join(found) if found else "layers: every include points down")
    sys.exit(1 if found else 0)
