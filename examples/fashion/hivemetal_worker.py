"""What a worker tells its node: one JSON object per line over the unix socket in HIVEMETAL_SOCKET.

    from hivemetal_worker import report
    report("metrics", epoch=3, loss=0.41, accuracy=0.81, samples=4096)

A training run must not depend on who listens: report() never raises and never waits longer than a second. Without
the variable it does nothing. An event whose sending fails is tried once more on a new connection, then dropped.
"""
import json
import os
import socket
import threading

_lock = threading.Lock()
_connection = None


def report(event, **fields):
    """Sends one event; True if the node's socket took it."""
    global _connection
    path = os.environ.get("HIVEMETAL_SOCKET")
    if not path:
        return False
    try:
        line = (json.dumps({"event": event, **fields}, default=str) + "\n").encode()
    except (TypeError, ValueError):  # a dict that contains itself, say
        return False
    with _lock:
        for _ in range(2):
            try:
                if _connection is None:
                    _connection = socket.socket(socket.AF_UNIX)
                    _connection.settimeout(1)
                    _connection.connect(path)
                _connection.sendall(line)
                return True
            except OSError:
                _connection.close()
                _connection = None
    return False
