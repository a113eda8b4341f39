import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import nodes  # noqa: E402


@pytest.fixture(scope="module")
def swarm():
    """Three nodes for tests that leave them as they were."""
    made = nodes.Swarm(3)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def make_swarm():
    """Swarms of a test's own, for those that break something."""
    made = []

    def make(count, settings="cpus: 4\nmemory: 2GiB\n", start=True):
        made.append(nodes.Swarm(count, settings))
        return made[-1].start() if start else made[-1]

    yield make
    for swarm in made:
        swarm.close()


def pytest_collection_modifyitems(items):
    # What nobody may leave behind is counted last.
    items.sort(key=lambda item: "nothing_left" in item.nodeid)
