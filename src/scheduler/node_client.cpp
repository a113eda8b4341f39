#include "scheduler/node_client.h"

#include <algorithm>

namespace hivemetal::scheduler {

namespace {

constexpr std::size_t kPingsKept = 8;
constexpr std::size_t kNodesMax = 4096;  // whose round trips are remembered

// The checked answer, or why there is none.
template <class Reply>
Result<Reply> answer(Result<Bytes> bytes) {
  if (!bytes) return std::move(bytes).error();
  return parse<Reply>(*bytes);
}

}  // namespace

asio::awaitable<Result<Bytes>> NodeClient::call(PeerId node, std::string handle, Bytes request,
                                                Clock::TimePoint deadline) {
  if (node != network_.self()) {
    co_return co_await network_.call(std::move(node), std::move(handle), std::move(request), deadline);
  }
  auto answer = co_await local_(std::move(handle), std::move(node), std::move(request));
  // As over the network: whatever a handler fails with, the caller sees a refusal.
  if (!answer) co_return Error{ErrorCode::Refused, answer.error().message};
  co_return answer;
}

asio::awaitable<Result<proto::Offer>> NodeClient::offer(PeerId node, proto::OfferRequest request,
                                                        Clock::TimePoint deadline) {
  co_return answer<proto::Offer>(
      co_await call(std::move(node), kOfferHandle, request.SerializeAsString(), deadline));
}

asio::awaitable<Result<proto::LeaseReply>> NodeClient::lease(PeerId node, proto::LeaseRequest request,
                                                             Clock::TimePoint deadline) {
  co_return answer<proto::LeaseReply>(
      co_await call(std::move(node), kLeaseHandle, request.SerializeAsString(), deadline));
}

asio::awaitable<Result<proto::RenewReply>> NodeClient::renew(PeerId node, proto::RenewRequest request,
                                                             Clock::TimePoint deadline) {
  co_return answer<proto::RenewReply>(
      co_await call(std::move(node), kRenewHandle, request.SerializeAsString(), deadline));
}

asio::awaitable<Result<proto::StopReply>> NodeClient::stop(PeerId node, proto::StopRequest request,
                                                           Clock::TimePoint deadline) {
  co_return answer<proto::StopReply>(
      co_await call(std::move(node), kStopHandle, request.SerializeAsString(), deadline));
}

asio::awaitable<Result<proto::LogReply>> NodeClient::log(PeerId node, proto::LogRequest request,
                                                         Clock::TimePoint deadline) {
  co_return answer<proto::LogReply>(
      co_await call(std::move(node), kLogHandle, request.SerializeAsString(), deadline));
}

asio::awaitable<Result<proto::PingReply>> NodeClient::ping(PeerId node, Clock::TimePoint deadline) {
  const auto start = clock_.now();
  auto reply = answer<proto::PingReply>(
      co_await call(node, kPingHandle, proto::PingRequest().SerializeAsString(), deadline));
  if (reply && (pings_.contains(node) || pings_.size() < kNodesMax)) {
    auto& pings = pings_[node];
    pings.push_back(std::chrono::duration<double, std::milli>(clock_.now() - start).count());
    if (pings.size() > kPingsKept) pings.erase(pings.begin());
  }
  co_return reply;
}

std::optional<double> NodeClient::rtt_ms(const PeerId& node) const {
  if (node == network_.self()) return 0;
  const auto found = pings_.find(node);
  if (found == pings_.end()) return std::nullopt;
  return *std::min_element(found->second.begin(), found->second.end());
}

}  // namespace hivemetal::scheduler
