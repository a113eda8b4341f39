"""A stock Hivemind DHT node that answers JSON lines as hivemetal-dht does (see apps/hivemetal-dht/console.h).

    python hivemind_peer.py [--client] [--run RUN_ID] [INITIAL_PEER …]

With --run it checks and signs records as a hivemind.Optimizer of that run does. Beside store, get, stats it knows
`raw_store`, which sends a rpc_store of given items to one peer and answers with its store_ok list, and `raw_find`.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading

from hivemind.dht.crypto import RSASignatureValidator
from hivemind.dht.node import DHTNode
from hivemind.dht.routing import DHTID
from hivemind.dht.schema import SchemaValidator
from hivemind.dht.validation import CompositeValidator
from hivemind.optim.progress_tracker import TrainingProgressSchema
from hivemind.p2p import PeerID
from hivemind.proto import dht_pb2
from hivemind.utils import MSGPackSerializer, get_dht_time


def value_of(data):
    """A Python value of its JSON notation; a list may not be a key here, so it becomes no tuple by itself."""
    if isinstance(data, list):
        return [value_of(item) for item in data]
    if isinstance(data, dict):
        if "$bytes" in data:
            return bytes.fromhex(data["$bytes"])
        if "$tuple" in data:
            return tuple(value_of(item) for item in data["$tuple"])
        return {key: value_of(item) for key, item in data.items()}
    return data


def json_of(value):
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, tuple):
        return {"$tuple": [json_of(item) for item in value]}
    if isinstance(value, list):
        return [json_of(item) for item in value]
    if isinstance(value, dict):
        return {key: json_of(item) for key, item in value.items()}
    return value


class Commands:
    def __init__(self, node: DHTNode, owner: bytes):
        self.node = node
        self.owner = owner

    async def run(self, command: dict) -> dict:
        return await getattr(self, command["do"])(command)

    async def store(self, command: dict) -> dict:
        subkey = command.get("subkey")
        subkey = self.owner if subkey == {"$owner": True} else value_of(subkey)
        expiration = command.get("expiration") or get_dht_time() + command["ttl"]
        stored = await self.node.store(value_of(command["key"]), value_of(command["value"]), expiration, subkey=subkey)
        return {"stored": bool(stored)}

    async def get(self, command: dict) -> dict:
        found = await self.node.get(value_of(command["key"]), latest=command.get("latest", True))
        if found is None:
            return {"found": None}
        value, expiration = found
        is_dictionary = isinstance(value, dict) and all(hasattr(item, "expiration_time") for item in value.values())
        if is_dictionary and value:
            return {"found": {"entries": [
                {"subkey": json_of(subkey), "value": json_of(item.value), "expiration": item.expiration_time}
                for subkey, item in value.items()]}}
        return {"found": {"value": json_of(value), "expiration": expiration}}

    async def stats(self, command: dict) -> dict:
        table = self.node.protocol.routing_table
        return {"known_nodes": len(table.uid_to_peer_id), "stored_entries": len(self.node.protocol.storage)}

    async def forget(self, command: dict) -> dict:
        """Drops the cache, so that a get has to ask others."""
        self.node.protocol.cache.clear()
        return {}

    async def raw_store(self, command: dict) -> dict:
        """Items are [key, tag hex, value hex, seconds from `now`, in_cache]; `drop` names a list that loses its last."""
        now = command.get("now") or get_dht_time()
        request = dht_pb2.StoreRequest()
        for key, tag, value, ttl, in_cache in command["items"]:
            request.keys.append(DHTID.generate(key).to_bytes())
            request.subkeys.append(bytes.fromhex(tag))
            request.values.append(bytes.fromhex(value))
            request.expiration_time.append(now + ttl)
            request.in_cache.append(in_cache)
        if "drop" in command:
            getattr(request, command["drop"]).pop()
        stub = self.node.protocol.get_stub(PeerID.from_base58(command["peer"]))
        response = await stub.rpc_store(request, timeout=10)
        return {"store_ok": list(response.store_ok), "now": now}

    async def raw_find(self, command: dict) -> dict:
        """What one peer answers: [type, value hex or sorted entries, seconds from `now`] per key."""
        request = dht_pb2.FindRequest(keys=[DHTID.generate(key).to_bytes() for key in command["keys"]])
        stub = self.node.protocol.get_stub(PeerID.from_base58(command["peer"]))
        response = await stub.rpc_find(request, timeout=10)
        results = []
        for result in response.results:
            if result.type == dht_pb2.FOUND_DICTIONARY:
                dictionary = MSGPackSerializer.loads(result.value)
                with dictionary.freeze():
                    value = sorted([str(subkey), item.value.hex(), round(item.expiration_time - command["now"], 3)]
                                   for subkey, item in dictionary.items())
            else:
                value = result.value.hex()
            ttl = round(result.expiration_time - command["now"], 3) if result.type else 0
            results.append([result.type, value, ttl])
        return {"results": results}

    async def dictionary(self, command: dict) -> dict:
        """The bytes of a dictionary value; entries are [sub-key, value hex, expiration]."""
        from hivemind.dht.storage import DictionaryDHTValue
        with DictionaryDHTValue().freeze() as dictionary:
            for subkey, value, expiration in command["entries"]:
                dictionary.store(subkey, bytes.fromhex(value), expiration)
            return {"bytes": MSGPackSerializer.dumps(dictionary).hex()}


def say(message: dict) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def main(arguments) -> None:
    validators = []
    owner = b""
    if arguments.run:
        signature = RSASignatureValidator()
        owner = signature.local_public_key
        validators = [SchemaValidator(TrainingProgressSchema, prefix=arguments.run), signature]
    try:
        node = await DHTNode.create(
            initial_peers=arguments.initial_peers or None, client_mode=arguments.client,
            record_validator=CompositeValidator(validators) if validators else None,
            host_maddrs=["/ip4/127.0.0.1/tcp/0"], startup_timeout=30)
    except Exception as error:
        say({"event": "failed", "error": repr(error)})
        return
    addresses = [str(address) for address in await node.get_visible_maddrs()]
    say({"event": "ready", "peer_id": str(node.peer_id), "addresses": addresses, "owner": owner.decode()})

    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    commands = Commands(node, owner)

    async def answer(line: str) -> None:
        command = json.loads(line)
        try:
            result = await commands.run(command)
        except Exception as error:
            result = {"error": repr(error)}
        say(result | {"id": command["id"]})

    def read() -> None:
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(answer(line), loop)
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=read, daemon=True).start()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    await done.wait()
    await node.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("initial_peers", nargs="*")
    parser.add_argument("--client", action="store_true")
    parser.add_argument("--run")
    asyncio.run(main(parser.parse_args()))
    os._exit(0)
