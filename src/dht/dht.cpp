#include "dht/dht.h"

#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace hivemetal::dht {

namespace {

constexpr std::size_t kItemsPerTurn = 64;  // stored or handed over before others get their turn
constexpr std::size_t kLinePeersMax = 256;
constexpr std::size_t kLinesPerPeer = 2;

}  // namespace

Dht::Dht(asio::any_io_executor executor, Clock& clock, p2p::Network& network, DhtOptions options,
         Random random)
    : executor_(executor),
      clock_(clock),
      network_(network),
      options_(std::move(options)),
      state_(options_.node_id.value_or(DhtId::random(random)), network.self(), options_),
      responder_(state_),
      calls_(executor, clock, network, options_, state_,
             [this](const PeerId& peer, std::optional<DhtId> id, bool answered) {
               heard_of(peer, id, answered);
             }),
      tasks_(executor) {}

Dht::~Dht() = default;

void Dht::add_validator(std::unique_ptr<RecordValidator> validator) {
  state_.validators.add(std::move(validator));
}

asio::awaitable<Result<void>> Dht::start(std::vector<p2p::Multiaddr> initial_peers) {
  if (!options_.client_mode) {
    if (const auto served = co_await serve(); !served) co_return served.error().within("serve the DHT");
  }
  state_.peer = network_.self();
  if (initial_peers.empty()) co_return Result<void>();
  co_return co_await join(std::move(initial_peers));
}

asio::awaitable<Result<void>> Dht::serve() {
  serving_ = true;
  const auto ping = co_await network_.serve(std::string(kPing), [this](PeerId peer, Bytes request) {
    return on_ping(std::move(peer), std::move(request));
  });
  if (!ping) co_return ping;
  const auto store = co_await network_.serve(std::string(kStore), [this](PeerId peer, Bytes request) {
    return on_store(std::move(peer), std::move(request));
  });
  if (!store) co_return store;
  const auto find = co_await network_.serve(std::string(kFind), [this](PeerId peer, Bytes request) {
    return on_find(std::move(peer), std::move(request));
  });
  if (!find) co_return find;
  co_return co_await network_.serve_stream(
      std::string(kLineProtocol),
      [this](std::unique_ptr<p2p::Stream> stream) { return on_line(std::move(stream)); });
}

asio::awaitable<void> Dht::stop() {
  if (std::exchange(serving_, false)) {
    for (const auto handle : {kPing, kStore, kFind, kLineProtocol})
      co_await network_.stop_serving(std::string(handle));
  }
  co_await calls_.close();
  co_await tasks_.close();
}

DhtStats Dht::stats() const {
  return {.node_id = state_.id,
          .known_nodes = state_.table.size(),
          .stored_entries = state_.storage.entries(),
          .stored_bytes = state_.storage.bytes(),
          .cached_entries = state_.cache.entries(),
          .requests_sent = calls_.sent(),
          .requests_failed = calls_.failed(),
          .requests_served = served_,
          .lines = calls_.lines(),
          .clock_offset_s = clock_offset_s_};
}

// ---- answering

asio::awaitable<Result<Bytes>> Dht::on_ping(PeerId peer, Bytes request) {
  ++served_;
  const auto ping = decode_ping_request(request);
  if (!ping) co_return ping.error();
  PingReply reply{state_.announced_id(), 0, false};
  if (ping->sender && ping->validate) {
    // In less time than the caller waits, so that it gets its answer even if we cannot reach it.
    const auto back = co_await calls_.ping(peer, false, clock_.now() + options_.rpc_timeout / 2);
    reply.available = back && back->id == ping->sender;
  }
  if (ping->sender && (reply.available || !ping->validate)) heard_of(peer, ping->sender, true);
  reply.time = clock_.unix_time();
  co_return encode(reply);
}

asio::awaitable<Result<Bytes>> Dht::on_store(PeerId peer, Bytes request) {
  ++served_;
  auto store = decode_store_request(request);
  if (!store) co_return store.error();
  if (store->sender) heard_of(peer, store->sender, true);
  StoreReply reply{state_.announced_id(), {}};
  for (const StoreItem& item : store->items) {
    if (reply.stored.size() % kItemsPerTurn == kItemsPerTurn - 1)
      co_await asio::post(executor_, asio::use_awaitable);
    const auto stored = responder_.store(item, clock_.unix_time());
    if (!stored) co_return stored.error();
    reply.stored.push_back(*stored);
  }
  co_return encode(reply);
}

asio::awaitable<Result<Bytes>> Dht::on_find(PeerId peer, Bytes request) {
  ++served_;
  const auto find = decode_find_request(request);
  if (!find) co_return find.error();
  if (find->sender) heard_of(peer, find->sender, true);
  co_return encode(responder_.find(*find, clock_.unix_time()));
}

asio::awaitable<void> Dht::on_line(std::unique_ptr<p2p::Stream> stream) {
  const PeerId peer = stream->peer();
  const auto others = lines_served_.find(peer);
  const bool too_many =
      others == lines_served_.end() ? lines_served_.size() >= kLinePeersMax : others->second >= kLinesPerPeer;
  if (too_many) co_return;  // the peer's calls stay unary
  struct Served {
    std::map<PeerId, std::size_t>& lines;
    const PeerId& peer;
    Served(std::map<PeerId, std::size_t>& lines, const PeerId& peer) : lines(lines), peer(peer) {
      ++lines[peer];
    }
    ~Served() {
      if (--lines[peer] == 0) lines.erase(peer);
    }
  } const served(lines_served_, peer);
  co_await serve_line(std::move(stream), [this](PeerId from, std::string_view handle, Bytes request) {
    return handle == kStore ? on_store(std::move(from), std::move(request))
                            : on_find(std::move(from), std::move(request));
  });
}

// ---- the routing table

void Dht::heard_of(const PeerId& peer, std::optional<DhtId> id, bool answered) {
  if (peer == state_.peer) return;
  if (!answered) {
    swarm_seen_.reset();
    return state_.table.remove(peer);
  }
  if (!id || *id == state_.id) return;
  const Node node{*id, peer};
  if (state_.table.id_of(peer) != id) {
    if (state_.table.size() < options_.bucket_size)
      calls_.prepare(peer);  // in a small swarm everybody is a neighbour
    tasks_.spawn("dht handover", hand_over(node));
  }
  if (auto doubtful = state_.table.add_or_update(node))
    tasks_.spawn("dht ping", check_alive(std::move(*doubtful)));
}

asio::awaitable<void> Dht::check_alive(Node node) {
  const auto answer = co_await calls_.ping(node.peer, false, clock_.now() + options_.rpc_timeout);
  if (!answer) state_.table.remove(node.id);
}

// Gives a node we just met the records that it should hold from now on.
asio::awaitable<void> Dht::hand_over(Node node) {
  std::size_t looked_at = 0;
  for (const DhtId& key : state_.storage.keys(clock_.unix_time())) {
    if (++looked_at % kItemsPerTurn == 0) co_await asio::post(executor_, asio::use_awaitable);
    auto others = state_.table.nearest(key, options_.replicas + 1);
    std::erase(others, node);
    if (others.size() > options_.replicas) others.pop_back();
    if (!others.empty()) {
      const bool it_should_hold =
          node.id.distance_to(key) < others.back().id.distance_to(key) || others.size() < options_.replicas;
      const bool we_should_send = state_.id.distance_to(key) < others.front().id.distance_to(key);
      if (!it_should_hold || !we_should_send) continue;
    }
    const Item* item = state_.storage.find(key, clock_.unix_time());
    if (item == nullptr) continue;
    StoreItem sent{key, {}, {}, item->expiration, false};
    if (const Dictionary* dictionary = item->dictionary()) {
      sent.tag = kDictionaryTag;
      sent.value = encode_dictionary(dictionary->list(), dictionary->latest);
    } else {
      sent.tag = kRegularTag;
      sent.value = std::get<Bytes>(item->value);
    }
    calls_.store(node.peer, std::move(sent), [](Result<bool>) {});
  }
}

}  // namespace hivemetal::dht
