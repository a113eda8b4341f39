// The inside of a coordinator's run. Included by coordinator*.cpp only.
#pragma once

#include "job/job.h"
#include "scheduler/coordinator.h"

namespace hivemetal::scheduler {

struct Coordinator::Run {
  std::string id;
  RunState state;
  proto::LeaseRequest lease;  // what all lease requests have in common: the job and its files
  job::JobSpec job;
  double submitted_unix = 0;
  double ended_unix = 0;
  std::uint64_t sequence = 0;  // of the last event
};

// One round of asking for offers.
struct Coordinator::OfferRound {
  explicit OfferRound(asio::any_io_executor executor) : answered(std::move(executor)) {}

  std::uint32_t slots = 0;
  std::size_t pending = 0;
  bool closed = false;  // later offers are declined
  std::vector<Candidate> offers;
  std::vector<std::string> refusals;
  Notification answered;
};

}  // namespace hivemetal::scheduler
