"""Our DHT nodes and stock Hivemind 1.1.12 nodes in one swarm, each over its own p2pd on loopback."""

import json
import random
import time

import msgpack
import pytest

pytestmark = pytest.mark.timeout(180)

VALUES = [
    {"$tuple": ["i", "love", "bees"]}, 0, -33, 2**40, 1.5, True, None, "", "text ü", {"$bytes": "00ff"}, [1, [2, "3"]],
    {"a": 1, "b": {"$bytes": "01"}},
]
RUN = "interop"


def both(start, **more):
    """A stock node and one of ours that joined through it."""
    theirs = start.hivemind(**more).wait_ready()
    ours = start.ours(initial_peers=theirs.addresses, **more).wait_ready()
    return ours, theirs


def both_and_a_probe(start, **more):
    """As both(), and a stock client that sends them single requests."""
    ours, theirs = both(start, **more)
    return ours, theirs, start.hivemind(initial_peers=theirs.addresses, client=True).wait_ready()


def progress(epoch=3):
    return {"peer_id": {"$bytes": "0024"}, "epoch": epoch, "samples_accumulated": 128, "samples_per_second": 12.5,
            "time": 1700000000.25, "client_mode": False}


def pack(value) -> str:
    return msgpack.packb(value).hex()


NIL = pack(None)


def test_what_they_store_we_get_and_what_we_store_they_get(start):
    ours, theirs = both(start)
    for number, value in enumerate(VALUES):
        assert theirs.store(f"theirs {number}", value)
        assert ours.store(f"ours {number}", value)
    for number, value in enumerate(VALUES):
        for key in (f"theirs {number}", f"ours {number}"):
            assert ours.get(key) == value
            theirs.do("forget")
            assert theirs.get(key) == value
    assert ours.get("nothing") is None
    assert theirs.get("nothing") is None


def test_keys_of_any_kind_name_the_same_record(start):
    ours, theirs = both(start)
    for number, key in enumerate(["text", {"$bytes": "726177"}, {"$tuple": ["a", 1]}, 123, 1.5]):
        assert theirs.store(key, number)
        assert ours.get(key) == number
        assert ours.store(key, -number - 1, ttl=90)
        theirs.do("forget")
        assert theirs.get(key) == -number - 1


def test_subkeys_of_both_meet_in_one_dictionary(start):
    ours, theirs = both(start)
    assert theirs.store("party", "yes", subkey="bob")
    assert ours.store("party", 1.5, ttl=70, subkey="alice")
    assert theirs.store("party", "late", ttl=80, subkey="carol")
    expected = {"bob": "yes", "alice": 1.5, "carol": "late"}
    assert ours.get("party") == expected
    theirs.do("forget")
    assert theirs.get("party") == expected
    assert not ours.store("party", "no", ttl=50, subkey="bob"), "an earlier expiration loses on their side too"
    assert ours.store("party", "no", ttl=90, subkey="bob")
    theirs.do("forget")
    assert theirs.get("party") == expected | {"bob": "no"}


def test_what_expired_is_gone_for_both(start):
    ours, theirs = both(start)
    assert ours.store("ours", 1, ttl=2.0)
    assert theirs.store("theirs", 2, ttl=2.0)
    assert ours.store("party", 3, ttl=2.0, subkey="soon")
    assert ours.store("party", 4, ttl=60, subkey="later")
    assert theirs.get("ours") == 1 and ours.get("theirs") == 2
    time.sleep(2.2)  # real time has to pass: their clock is the system's
    for peer in (ours, theirs):
        assert peer.get("ours") is None and peer.get("theirs") is None
        assert peer.get("party") == {"later": 4}


def test_we_are_the_only_bootstrap_of_a_stock_swarm(start):
    ours = start.ours().wait_ready()
    theirs = [start.hivemind(initial_peers=ours.addresses) for _ in range(3)]
    for peer in theirs:
        peer.wait_ready()
    for number, peer in enumerate(theirs):
        assert peer.store(f"from {number}", number)
    for peer in [ours, *theirs]:
        for number in range(3):
            assert peer.get(f"from {number}") == number
    assert ours.do("stats")["known_nodes"] == 3
    for peer in theirs:
        assert peer.do("stats")["known_nodes"] == 3, "each knows the other two and us"


def test_clients_of_either_kind_use_servers_of_the_other(start):
    ours, theirs = both(start)
    our_client = start.ours(initial_peers=theirs.addresses, client=True)
    their_client = start.hivemind(initial_peers=ours.addresses, client=True)
    our_client.wait_ready()
    their_client.wait_ready()
    assert our_client.store("from our client", 1)
    assert their_client.store("from their client", 2)
    for peer in (ours, theirs, our_client, their_client):
        assert peer.get("from our client") == 1
        assert peer.get("from their client") == 2
    assert ours.do("stats")["known_nodes"] == 1, "clients are in nobody's routing table"
    assert theirs.do("stats")["known_nodes"] == 1
    assert our_client.do("stats")["requests_served"] == 0


def test_signed_progress_records_are_accepted_both_ways(start):
    ours, theirs = both(start, run=RUN)
    assert ours.store(f"{RUN}_progress", progress(3), subkey={"$owner": True})
    assert theirs.store(f"{RUN}_progress", progress(4), subkey={"$owner": True})
    expected = {json.dumps({"$bytes": peer.ready["owner"].encode().hex()}): progress(epoch)
                for peer, epoch in ((ours, 3), (theirs, 4))}
    assert ours.get(f"{RUN}_progress") == expected
    theirs.do("forget")
    found = theirs.get(f"{RUN}_progress")
    assert found == expected
    assert ours.store(f"{RUN}_progress", None, ttl=90, subkey={"$owner": True}), "leaving"
    theirs.do("forget")
    assert None in theirs.get(f"{RUN}_progress").values()


def test_wrong_records_are_refused_by_both(start):
    ours, theirs = both(start, run=RUN)
    stranger = start.hivemind(initial_peers=theirs.addresses, client=True).wait_ready()
    key = f"{RUN}_progress"
    assert ours.store(key, progress(), ttl=60, subkey={"$owner": True})
    now = time.time()
    [[_, [[_, signed, ttl]], _]] = stranger.do("raw_find", peer=ours.ready["peer_id"], keys=[key], now=0)["results"]
    marker = msgpack.packb(ours.ready["owner"].encode()).hex()
    # raw_find rounds; the exact expiration is what was signed, so ask for it.
    [entry] = ours.do("get", key=key)["found"]["entries"]
    expiration = entry["expiration"]
    assert abs(expiration - ttl) < 0.01

    def offer(tag, value, expiration=expiration, key=key):
        """What each answers to one item; `now` 0 makes the seconds absolute."""
        item = [key, tag, value, expiration, False]
        return [stranger.do("raw_store", peer=peer.ready["peer_id"], items=[item], now=1e-9)["store_ok"]
                for peer in (ours, theirs)]

    refused = [[False], [False]]
    assert offer(marker, signed, expiration + 1) == refused, "a longer life than signed"
    assert offer(marker, "00" + signed[2:], expiration) == refused, "another value"
    assert offer(marker, signed, key="other") == refused, "another key"
    assert offer(marker, signed[:-4] + "4141", expiration) == refused, "a damaged signature"
    assert offer(marker, pack(None), now + 90) == refused, "no signature"
    assert offer(NIL, pack(1), now + 90) == refused, "a regular value under a schema's key"
    two = msgpack.packb((ours.ready["owner"] + theirs.ready["owner"]).encode()).hex()
    assert offer(two, signed) == refused, "two owners"
    assert offer(pack("anybody"), pack(1), now + 90, key="unprotected") == [[True], [True]]
    wrong = ours.do("store", key=key, value={"epoch": 1}, ttl=90, subkey={"$owner": True})
    assert "validators" in wrong["error"], "we do not even send what they would refuse"


def store_cases():
    """40 sequences of items [key, tag, value, seconds, in_cache] that a node answers one by one."""
    tags = [NIL, pack("a"), pack("b"), pack(7)]
    cases = []
    for held_tag in (NIL, pack("a")):
        for tag in (NIL, pack("a"), pack("b")):
            for ttl in (40, 50, 60):
                cases.append([[held_tag, pack("held"), 50, False], [tag, pack("new"), ttl, False]])
    for in_cache in (False, True):
        cases.append([[NIL, pack("stored"), 50, not in_cache], [NIL, pack("cached"), 60, in_cache]])
        cases.append([[pack("a"), pack("stored"), 50, not in_cache], [pack("b"), pack("cached"), 60, in_cache]])
    cases.append([[NIL, pack("expired"), -1, False]])
    cases.append([[pack("a"), pack("expired"), -1, False], [pack("a"), pack("fine"), 50, False]])
    choice = random.Random(5)
    while len(cases) < 40:
        cases.append([[choice.choice(tags), pack(choice.randrange(100)), choice.randrange(40, 46) + index / 100,
                       choice.random() < 0.3] for index in range(choice.randrange(3, 7))])
    return [[[f"case {number}", *item] for item in case] for number, case in enumerate(cases)]


def test_forty_store_and_find_cases_are_answered_alike(start):
    ours, theirs, probe = both_and_a_probe(start)
    cases = store_cases()
    now = time.time()
    seen = []
    for peer in (ours, theirs):
        answers = []
        for case in cases:
            for item in case:
                answers.append(probe.do("raw_store", peer=peer.ready["peer_id"], items=[item], now=now)["store_ok"])
            answers.append(probe.do("raw_find", peer=peer.ready["peer_id"], keys=[case[0][0]], now=now)["results"])
        seen.append(answers)
    assert seen[0] == seen[1]


def test_whole_dictionaries_are_taken_up_to_the_first_refused_entry(start):
    ours, theirs, probe = both_and_a_probe(start)
    now = time.time()
    entries = [["c", pack(1), now + 40], ["b", pack(2), now + 40], ["a", pack(3), now + 40]]
    dictionary = probe.do("dictionary", entries=entries)["bytes"]
    seen = []
    for peer in (ours, theirs):
        name = peer.ready["peer_id"]
        first = probe.do("raw_store", peer=name, items=[["d", pack("b"), pack("held"), 50, False]], now=now)
        whole = probe.do("raw_store", peer=name, items=[["d", "", dictionary, 40, False]], now=now)
        seen.append([first["store_ok"], whole["store_ok"], probe.do("raw_find", peer=name, keys=["d"], now=now)["results"]])
    assert seen[0] == seen[1]
    assert seen[0][1] == [False]


def test_broken_requests_are_refused_by_both(start):
    ours, theirs, probe = both_and_a_probe(start)
    good = ["k", NIL, pack(1), 50, False]
    for broken in (["k", "", pack(1), 50, False], ["k", "c1", pack(1), 50, False], ["k", "", "c1", 50, False],
                   ["k", pack([1]), pack(1), 50, False]):
        for peer in (ours, theirs):
            assert "error" in probe.do("raw_store", peer=peer.ready["peer_id"], items=[broken]), broken
    for name in ("values", "expiration_time", "in_cache"):
        for peer in (ours, theirs):
            answer = probe.do("raw_store", peer=peer.ready["peer_id"], items=[good, good], drop=name)
            assert "error" in answer, name
    assert "error" in probe.do("raw_store", peer=ours.ready["peer_id"], items=[good, good], drop="subkeys")
    assert probe.do("raw_store", peer=ours.ready["peer_id"], items=[good])["store_ok"] == [True], "and we live on"


def test_two_faults_of_the_stock_storage_are_not_ours(start):
    ours, theirs, probe = both_and_a_probe(start)
    now = time.time()

    def after(peer):
        name = peer.ready["peer_id"]
        probe.do("raw_store", peer=name, items=[["newer", NIL, pack(1), 60, False]], now=now)
        probe.do("raw_store", peer=name, items=[["newer", NIL, pack(2), time.time() - now + 1, False]], now=now)
        mixed = probe.do("raw_store", peer=name, now=now, items=[
            ["mixed", pack("a"), pack(1), 60, False], ["mixed", msgpack.packb(b"a").hex(), pack(2), 60, False]])
        time.sleep(1.2)
        return mixed, probe.do("raw_find", peer=name, keys=["newer"], now=now)["results"][0][0]

    mixed, kind = after(ours)
    assert mixed["store_ok"] == [True, True] and kind == 1
    mixed, kind = after(theirs)
    assert "TypeError" in mixed["error"], "B-36: sub-keys of two kinds with one expiration"
    assert kind == 0, "B-35: a refused older record took the newer one with it"


def test_we_send_no_record_older_than_one_we_know(start):
    ours, theirs = both(start)
    assert ours.store("k", "newer", ttl=60)
    assert not ours.store("k", "older", ttl=1)
    assert ours.store("party", "newer", ttl=60, subkey="a")
    assert not ours.store("party", "older", ttl=1, subkey="a")
    time.sleep(1.2)
    theirs.do("forget")
    assert theirs.get("k") == "newer", "B-35 would have taken it"
    assert theirs.get("party") == {"a": "newer"}


def test_a_dictionary_larger_than_a_message_is_still_served(start):
    ours, theirs, probe = both_and_a_probe(start)
    for number in range(50):
        item = ["big", pack(number), pack("x" * 100_000), 50 + number, False]
        answer = probe.do("raw_store", peer=ours.ready["peer_id"], items=[item])
        assert answer["store_ok"] == [True]
    [result] = probe.do("raw_find", peer=ours.ready["peer_id"], keys=["big"], now=0)["results"]
    assert result[0] == 2
    assert 30 <= len(result[1]) < 50
    assert "49" in [entry[0] for entry in result[1]], "what lives longest is kept"


def test_a_mixed_swarm_keeps_its_records_when_a_third_of_it_dies(start):
    first = start.ours().wait_ready()
    peers = [first]
    for number in range(7):
        kind = start.hivemind if number % 2 == 0 else start.ours
        peers.append(kind(initial_peers=random.Random(number).choice(peers).addresses).wait_ready())
    choice = random.Random(1)
    for number in range(60):
        assert choice.choice(peers).store(f"key {number}", number, ttl=150)
    for number in range(60):
        assert choice.choice(peers).get(f"key {number}") == number
    victims = [peers[2], peers[5]]
    for victim in victims:
        victim.end(how=9)
        peers.remove(victim)
    found = sum(choice.choice(peers).get(f"key {number}") == number for number in range(60))
    assert found >= 59, f"{found} of 60 after the loss of two of eight"


def test_a_node_with_a_wrong_address_says_so(start):
    ours = start.ours(initial_peers=["/ip4/127.0.0.1/tcp/9/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"])
    with pytest.raises(RuntimeError, match="none of the initial peers is there"):
        ours.wait_ready()
