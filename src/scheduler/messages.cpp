#include "scheduler/messages.h"

#include <algorithm>
#include <cmath>

#include "p2p/network.h"
#include "runner/runner.h"

namespace hivemetal::scheduler {

namespace {

// What is wrong with a message: the name of a field, or nullptr.
using Wrong = const char*;

constexpr std::uint64_t kMilliCpusMax = 1'000'000'000;
constexpr std::uint64_t kMemoryMax = std::uint64_t{1} << 50;
constexpr std::uint32_t kWaitMsMax = 30'000;
constexpr std::uint64_t kEpochMax = std::uint64_t{1} << 62;
constexpr std::size_t kNameLengthMax = 64;
constexpr std::size_t kEventsMax = 1024;
constexpr std::size_t kFramesMax = 65'536;

bool is_number(double value, double max) { return std::isfinite(value) && value >= 0 && value <= max; }
bool is_epoch(std::uint64_t epoch) { return epoch >= 1 && epoch <= kEpochMax; }

// One line without control characters, which a terminal would obey.
bool is_name(const std::string& text) {
  return text.size() <= kNameLengthMax &&
         std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Wrong check(const proto::OfferRequest& message) {
  if (!is_run_id(message.run())) return "run";
  if (message.milli_cpus() == 0 || message.milli_cpus() > kMilliCpusMax) return "milli_cpus";
  if (message.memory() == 0 || message.memory() > kMemoryMax) return "memory";
  if (message.slots() == 0 || message.slots() > kWorkersMax) return "slots";
  if (!is_name(message.environment())) return "environment";
  if (!is_name(message.runtime())) return "runtime";
  if (message.membership().size() > kChainBytesMax) return "membership";
  return nullptr;
}

Wrong check(const proto::Offer& message) {
  if (message.slots() == 0 || message.slots() > kWorkersMax) return "slots";
  if (!is_name(message.name())) return "name";
  if (message.milli_cpus_total() > kMilliCpusMax) return "milli_cpus_total";
  if (message.milli_cpus_free() > message.milli_cpus_total()) return "milli_cpus_free";
  if (message.memory_total() > kMemoryMax) return "memory_total";
  if (message.memory_free() > message.memory_total()) return "memory_free";
  if (!is_number(message.load(), 1e6)) return "load";
  if (message.membership().size() > kChainBytesMax) return "membership";
  return is_name(message.confinement()) ? nullptr : "confinement";
}

Wrong check(const proto::LeaseRequest& message) {
  if (!is_run_id(message.run())) return "run";
  if (message.workers() == 0 || message.workers() > kWorkersMax) return "workers";
  if (message.worker() >= message.workers()) return "worker";
  if (!is_epoch(message.epoch())) return "epoch";
  if (message.attempt() == 0 || message.attempt() > 1'000'000) return "attempt";
  if (message.job().empty() || message.job().size() > kJobBytesMax) return "job";
  if (message.membership().size() > kChainBytesMax) return "membership";
  if (message.files_size() > static_cast<int>(kFilesMax)) return "files";
  std::size_t bytes = 0;
  for (const auto& file : message.files()) {
    if (!is_safe_path(file.path())) return "path of a file";
    bytes += file.content().size();
  }
  return bytes > kFilesBytesMax ? "files: too large" : nullptr;
}

Wrong check(const proto::LeaseReply& message) {
  return runner::is_valid_attempt_id(message.attempt()) ? nullptr : "attempt";
}

Wrong check(const proto::RenewRequest& message) {
  if (!is_run_id(message.run())) return "run";
  if (message.leases_size() == 0 || message.leases_size() > static_cast<int>(kRenewalsMax)) return "leases";
  for (const auto& lease : message.leases()) {
    if (lease.worker() >= kWorkersMax) return "worker";
    if (!is_epoch(lease.epoch())) return "epoch";
  }
  return message.wait_ms() > kWaitMsMax ? "wait_ms" : nullptr;
}

Wrong check(const proto::Exit& exit) {
  if (exit.reason().empty() || !is_name(exit.reason())) return "reason of an exit";
  if (exit.detail().size() > kTextBytesMax) return "detail of an exit";
  if (!is_number(exit.ended_unix(), 1e11)) return "ended_unix";
  return is_number(exit.cpu_seconds(), 1e12) ? nullptr : "cpu_seconds of an exit";
}

Wrong check(const proto::RenewReply& message) {
  if (message.workers_size() > static_cast<int>(kRenewalsMax)) return "workers";
  for (const auto& worker : message.workers()) {
    if (worker.worker() >= kWorkersMax) return "worker";
    if (worker.epoch() > kEpochMax) return "epoch";
    if (!proto::RenewReply::Status_IsValid(worker.status())) return "status";
    if (!proto::RenewReply::State_IsValid(worker.state())) return "state";
    if (!worker.attempt().empty() && !runner::is_valid_attempt_id(worker.attempt())) return "attempt";
    if (worker.pid() > (1U << 30)) return "pid";
    if (!is_number(worker.start_ms(), 1e9)) return "start_ms";
    if (!is_number(worker.cpu_seconds(), 1e12)) return "cpu_seconds";
    if (worker.events_size() > static_cast<int>(kEventsMax)) return "events";
    if (worker.next_event() > kEpochMax) return "next_event";
    for (const auto& event : worker.events()) {
      if (event.size() > kWorkerEventBytesMax) return "event";
    }
    if (worker.has_exit()) {
      if (const Wrong wrong = check(worker.exit())) return wrong;
    } else if (worker.state() == proto::RenewReply::ENDED) {
      return "exit";
    }
  }
  return nullptr;
}

Wrong check(const proto::StopRequest& message) {
  if (message.what_case() == proto::StopRequest::kOffer) return nullptr;
  if (message.what_case() != proto::StopRequest::kWorker) return "what";
  if (!is_run_id(message.worker().run())) return "run";
  if (message.worker().worker() >= kWorkersMax) return "worker";
  return is_epoch(message.worker().epoch()) ? nullptr : "epoch";
}

Wrong check(const proto::StopReply&) { return nullptr; }

Wrong check(const proto::LogRequest& message) {
  if (!runner::is_valid_attempt_id(message.attempt())) return "attempt";
  if (message.bytes_max() == 0 || message.bytes_max() > kLogChunkBytesMax) return "bytes_max";
  return message.wait_ms() > kWaitMsMax ? "wait_ms" : nullptr;
}

Wrong check(const proto::LogReply& message) {
  if (message.frames_size() > static_cast<int>(kFramesMax)) return "frames";
  for (const auto& frame : message.frames()) {
    if (frame.stream() < 1 || frame.stream() > 3) return "stream";
    if (!is_number(frame.unix_time(), 1e11)) return "unix_time";
  }
  return nullptr;
}

Wrong check(const proto::PingRequest&) { return nullptr; }

Wrong check(const proto::PingReply& message) {
  if (!is_number(message.unix_time(), 1e11)) return "unix_time";
  if (!is_name(message.version())) return "version";
  return is_name(message.name()) ? nullptr : "name";
}

}  // namespace

bool is_run_id(std::string_view text) {
  if (text.empty() || text.size() > kRunIdLengthMax || text.front() == '-' || text.back() == '-')
    return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 512 || path.front() == '/') return false;
  if (path.find('\\') != path.npos || path.find('\0') != path.npos) return false;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const auto component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") return false;
    begin = end + 1;
  }
  return true;
}

template <class Message>
Result<Message> parse(std::string_view bytes) {
  if (bytes.size() > p2p::kUnaryMessageBytesMax) return Error{ErrorCode::Invalid, "the message is too long"};
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error{ErrorCode::Invalid, "the bytes are no " + message.GetTypeName()};
  }
  if (const Wrong wrong = check(message)) {
    return Error{ErrorCode::Invalid, message.GetTypeName() + ": wrong " + wrong};
  }
  return message;
}

template Result<proto::OfferRequest> parse(std::string_view);
template Result<proto::Offer> parse(std::string_view);
template Result<proto::LeaseRequest> parse(std::string_view);
template Result<proto::LeaseReply> parse(std::string_view);
template Result<proto::RenewRequest> parse(std::string_view);
template Result<proto::RenewReply> parse(std::string_view);
template Result<proto::StopRequest> parse(std::string_view);
template Result<proto::StopReply> parse(std::string_view);
template Result<proto::LogRequest> parse(std::string_view);
template Result<proto::LogReply> parse(std::string_view);
template Result<proto::PingRequest> parse(std::string_view);
template Result<proto::PingReply> parse(std::string_view);

}  // namespace hivemetal::scheduler
