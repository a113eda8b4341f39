// WorkerHost: what is kept over a restart of the daemon.
#include <algorithm>

#include "scheduler/host.h"

namespace hivemetal::scheduler {

namespace {

constexpr const char* kName = "host/leases";

nlohmann::json json_of(const runner::ExitRecord& exit) {
  nlohmann::json json{{"reason", exit.reason},
                      {"detail", exit.detail},
                      {"ended", exit.ended_unix},
                      {"memory_peak", exit.memory_peak_bytes},
                      {"cpu_usec", exit.cpu_usec}};
  if (exit.code) json["code"] = *exit.code;
  if (exit.signal) json["signal"] = *exit.signal;
  return json;
}

runner::ExitRecord exit_from(const nlohmann::json& json) {
  runner::ExitRecord exit;
  exit.reason = json.at("reason").get<std::string>();
  exit.detail = json.at("detail").get<std::string>();
  exit.ended_unix = json.at("ended").get<double>();
  exit.memory_peak_bytes = json.at("memory_peak").get<std::uint64_t>();
  exit.cpu_usec = json.at("cpu_usec").get<std::uint64_t>();
  if (json.contains("code")) exit.code = json["code"].get<int>();
  if (json.contains("signal")) exit.signal = json["signal"].get<int>();
  return exit;
}

PeerId peer_from(const nlohmann::json& json) {
  const auto peer = PeerId::from_base58(json.get<std::string>());
  return peer ? *peer : PeerId();
}

}  // namespace

void WorkerHost::persist() {
  nlohmann::json leases = nlohmann::json::array();
  for (const Lease& lease : table_.leases()) {
    const auto found = work_.find(lease.key);
    if (found == work_.end()) continue;
    const Work& work = found->second;
    nlohmann::json json{{"run", lease.key.run},
                        {"worker", lease.key.worker},
                        {"holder", lease.holder.base58()},
                        {"epoch", lease.epoch},
                        {"first_epoch", lease.first_epoch},
                        {"milli_cpus", lease.grant.milli_cpus},
                        {"memory", lease.grant.memory},
                        {"ttl_ms", lease.ttl.count()},
                        {"attempt", work.attempt},
                        {"stopping", lease.state == LeaseState::Stopping}};
    if (work.exit) json["exit"] = json_of(*work.exit);
    leases.push_back(std::move(json));
  }
  nlohmann::json archive = nlohmann::json::array();
  for (const Archive& kept : archive_) {
    archive.push_back({{"attempt", kept.attempt}, {"holder", kept.holder.base58()}, {"ended", kept.ended}});
  }
  const nlohmann::json all{{"leases", std::move(leases)}, {"archive", std::move(archive)}};
  const auto text = all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (const auto put = store_.put(kName, text); !put)
    log::error("host: leases are not kept: {}", put.error().message);
}

void WorkerHost::restore_lease(const nlohmann::json& json,
                               const std::map<runner::AttemptId, runner::AttemptStatus>& found) {
  Lease lease;
  lease.key = {json.at("run").get<std::string>(), json.at("worker").get<std::uint32_t>()};
  lease.holder = peer_from(json.at("holder"));
  lease.epoch = json.at("epoch").get<std::uint64_t>();
  lease.first_epoch = json.at("first_epoch").get<std::uint64_t>();
  lease.grant = {json.at("milli_cpus").get<std::uint64_t>(), json.at("memory").get<std::uint64_t>()};
  lease.ttl = std::chrono::milliseconds(json.at("ttl_ms").get<std::int64_t>());
  Work work{.attempt = json.at("attempt").get<std::string>(), .first_epoch = lease.first_epoch};
  if (json.contains("exit")) work.exit = exit_from(json["exit"]);

  const auto status = found.find(work.attempt);
  const bool alive =
      status != found.end() && status->second.state != runner::AttemptState::Ended && !work.exit;
  if (status != found.end()) work.pid = status->second.pid;
  if (!alive && !work.exit) {
    work.exit = runner::ExitRecord{.reason = "UNKNOWN_EXIT", .ended_unix = clock_.unix_time()};
    if (status != found.end() && status->second.exit) work.exit = status->second.exit;
  }
  lease.state = alive ? LeaseState::Running : LeaseState::Ended;
  const LeaseKey key = lease.key;
  const std::uint64_t first_epoch = lease.first_epoch;
  if (alive) (void)runner_.renew(work.attempt, lease.ttl);
  table_.restore(clock_.now(), std::move(lease));
  work_[key] = std::move(work);
  if (alive && json.at("stopping").get<bool>()) {
    table_.stopping(key, first_epoch);
    tasks_.spawn("end a worker", end(key, first_epoch, "STOPPED"));
  }
}

asio::awaitable<Result<void>> WorkerHost::restore() {
  const auto kept = store_.get(kName);
  if (!kept) co_return kept.error().within("read the leases");
  const auto adopted = co_await runner_.adopt();
  if (!adopted) co_return adopted.error().within("find the workers of the last daemon");
  std::map<runner::AttemptId, runner::AttemptStatus> found;
  for (const auto& status : *adopted) found[status.id] = status;
  if (*kept) {
    try {
      const auto json = nlohmann::json::parse(**kept);
      for (const auto& one : json.at("archive")) {
        archive_.push_back(
            {one.at("attempt").get<std::string>(), peer_from(one.at("holder")), one.at("ended").get<bool>()});
      }
      for (const auto& one : json.at("leases")) restore_lease(one, found);
    } catch (const nlohmann::json::exception& error) {
      co_return Error{ErrorCode::Invalid, std::string("the kept leases cannot be read: ") + error.what()};
    }
  }
  for (Archive& archive : archive_) {
    const auto status = found.find(archive.attempt);
    archive.ended = status == found.end() || status->second.state == runner::AttemptState::Ended;
  }
  // Nobody holds a lease on these: started in the instant before the last daemon died, or left by another
  // store.
  for (const auto& [id, status] : found) {
    if (key_of(id)) continue;
    const bool archived =
        std::any_of(archive_.begin(), archive_.end(), [&](const Archive& a) { return a.attempt == id; });
    if (status.state != runner::AttemptState::Ended) {
      log::warn("host: attempt {} has no lease and is stopped", id);
      (void)co_await runner_.stop(id, "LEASE_EXPIRED");
    }
    if (!archived) (void)co_await runner_.remove(id);
  }
  persist();
  co_return Result<void>();
}

}  // namespace hivemetal::scheduler
