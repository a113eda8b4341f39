// Asks nodes: one function per call of scheduler.proto, and the round-trip times measured on the way.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/clock.h"
#include "p2p/network.h"
#include "scheduler/messages.h"

namespace hivemetal::scheduler {

using identity::PeerId;

class NodeClient {
 public:
  // `local` answers calls to ourselves, as host.h's WorkerHost::handle does; a node does not dial itself.
  using Local = std::function<asio::awaitable<Result<Bytes>>(std::string handle, PeerId from, Bytes request)>;

  NodeClient(Clock& clock, p2p::Network& network, Local local)
      : clock_(clock), network_(network), local_(std::move(local)) {}

  // Each fails as Network::call does, and with Invalid if the answer is not one. `Refused` carries the node's
  // reason.
  asio::awaitable<Result<proto::Offer>> offer(PeerId node, proto::OfferRequest request,
                                              Clock::TimePoint deadline);
  asio::awaitable<Result<proto::LeaseReply>> lease(PeerId node, proto::LeaseRequest request,
                                                   Clock::TimePoint deadline);
  asio::awaitable<Result<proto::RenewReply>> renew(PeerId node, proto::RenewRequest request,
                                                   Clock::TimePoint deadline);
  asio::awaitable<Result<proto::StopReply>> stop(PeerId node, proto::StopRequest request,
                                                 Clock::TimePoint deadline);
  asio::awaitable<Result<proto::LogReply>> log(PeerId node, proto::LogRequest request,
                                               Clock::TimePoint deadline);

  // Measures the round trip as well; see rtt_ms().
  asio::awaitable<Result<proto::PingReply>> ping(PeerId node, Clock::TimePoint deadline);

  // The least of the last pings (0 for ourselves, nothing if we never pinged): what the way costs without
  // queues.
  std::optional<double> rtt_ms(const PeerId& node) const;

 private:
  asio::awaitable<Result<Bytes>> call(PeerId node, std::string handle, Bytes request,
                                      Clock::TimePoint deadline);

  Clock& clock_;
  p2p::Network& network_;
  Local local_;
  std::map<PeerId, std::vector<double>> pings_;  // the last few of each node, in milliseconds
};

}  // namespace hivemetal::scheduler
