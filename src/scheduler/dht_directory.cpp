#include "scheduler/dht_directory.h"

#include "base/deadline.h"

namespace hivemetal::scheduler {

asio::awaitable<Result<void>> DhtDirectory::store(std::string key, Bytes subkey, Bytes value,
                                                  double expires_unix, Clock::TimePoint deadline) {
  const auto stored = co_await with_deadline(clock_, deadline,
                                             dht_.store(std::move(key), wire::Value::bin(std::move(subkey)),
                                                        wire::Value::bin(std::move(value)), expires_unix));
  if (!stored) co_return stored.error();
  if (!*stored) co_return Error{ErrorCode::Refused, "most nodes near the key did not take the record"};
  co_return Result<void>();
}

asio::awaitable<Result<std::vector<Directory::Entry>>> DhtDirectory::get(std::string key,
                                                                         Clock::TimePoint deadline) {
  const auto found = co_await with_deadline(clock_, deadline, dht_.get(std::move(key), /*latest=*/true));
  if (!found) co_return found.error();
  std::vector<Entry> entries;
  if (!*found) co_return entries;
  for (const dht::Entry& entry : (*found)->entries) {
    const Bytes* subkey = entry.subkey.as_bin();
    const Bytes* value = entry.value.as_bin();
    if (subkey && value) entries.push_back({*subkey, *value});
  }
  co_return entries;
}

}  // namespace hivemetal::scheduler
