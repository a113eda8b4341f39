"""Our p2p layer and stock hivemind.p2p.P2P, each behind a p2pd of its own: unary calls and streams, both ways.

    HIVEMETAL_BIN   folder with our binaries [build/dev/bin]
"""

import asyncio
import contextlib
import os
import pathlib

import pytest
from hivemind.p2p import P2P, PeerID
from hivemind.proto import runtime_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("HIVEMETAL_BIN", ROOT / "build" / "dev" / "bin"))
TEXT = '"!' + 33 * "x"  # as bytes, a runtime_pb2.Tensor with dtype = "xxx…", and one word for the probe


class Probe:
    """A running hivemetal-p2p-probe, connected to a Python peer."""

    def __init__(self, process: asyncio.subprocess.Process, address: str):
        self.process = process
        self.peer = PeerID.from_base58(address.rsplit("/", 1)[1])

    async def ask(self, line: str) -> str:
        self.process.stdin.write(line.encode() + b"\n")
        return (await self.process.stdout.readline()).decode().rstrip("\n")


@contextlib.asynccontextmanager
async def pair():
    """A stock P2P and a probe that is connected to it; both have ended, with their daemons, on return."""
    python = await P2P.create(nat_port_map=False)
    address = str((await python.get_visible_maddrs())[0])
    process = await asyncio.create_subprocess_exec(
        str(BIN / "hivemetal-p2p-probe"), address, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        own = (await process.stdout.readline()).decode().strip()
        assert own, "the probe did not start; build the target hivemetal-p2p-probe"
        yield python, Probe(process, own)
    finally:
        process.stdin.close()  # it stops its p2pd and ends
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 20)
        if process.returncode is None:
            process.kill()
            await process.wait()
        await python.shutdown()
        assert process.returncode == 0


async def echo(request, context):
    return request


async def refuse(request, context):
    raise ValueError("odd numbers only")


async def echo_stream(info, reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.timeout(120)
def test_python_calls_our_handler():
    async def run():
        async with pair() as (python, probe):
            request = runtime_pb2.Tensor(buffer=b"\x00\xff" * 100_000, dtype="float32")
            reply = await python.call_protobuf_handler(probe.peer, "Probe.echo", request, runtime_pb2.Tensor)
            assert reply == request
            with pytest.raises(Exception, match="protocols not supported"):
                await python.call_protobuf_handler(probe.peer, "Probe.nothing", request, runtime_pb2.Tensor)

    asyncio.run(run())


@pytest.mark.timeout(120)
def test_we_call_a_python_handler():
    async def run():
        async with pair() as (python, probe):
            await python.add_protobuf_handler("Python.echo", echo, runtime_pb2.Tensor)
            await python.add_protobuf_handler("Python.refuse", refuse, runtime_pb2.Tensor)
            assert await probe.ask("call Python.echo " + TEXT) == TEXT
            assert "odd numbers only" in await probe.ask("call Python.refuse " + TEXT)
            assert (await probe.ask("call Python.nothing " + TEXT)).startswith("error: ")

    asyncio.run(run())


@pytest.mark.timeout(120)
def test_python_opens_a_stream_to_us():
    async def run():
        async with pair() as (python, probe):
            _, reader, writer = await python.call_binary_stream_handler(probe.peer, "Probe.stream")
            sent = os.urandom(1_000_000)
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()

    asyncio.run(run())


@pytest.mark.timeout(120)
def test_we_open_a_stream_to_python():
    async def run():
        async with pair() as (python, probe):
            await python.add_binary_stream_handler("Python.stream", echo_stream)
            assert await probe.ask("stream Python.stream " + TEXT) == TEXT

    asyncio.run(run())
