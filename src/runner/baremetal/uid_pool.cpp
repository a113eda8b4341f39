#include "runner/baremetal/uid_pool.h"

#include <charconv>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/attempt/files.h"
#include "runner/attempt/processes.h"

namespace hivemetal::runner {

namespace {

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || end.ec != std::errc() || end.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<std::uint32_t> UidPool::allocate(const std::string& attempt) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  const Fd lock(::open((folder_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) return errno_error("lock", folder_ / "lock");

  const auto next_file = folder_ / "next";
  std::uint32_t next = number(read_file(next_file).value_or("")).value_or(range_.first);
  const std::uint64_t size = std::uint64_t{range_.last} - range_.first + 1;
  for (std::uint64_t tried = 0; tried < size && tried < 100'000; ++tried, ++next) {
    if (next < range_.first || next > range_.last) next = range_.first;
    const auto file = folder_ / fmt::format("{}", next);
    if (std::filesystem::exists(file) || is_uid_in_use(next)) continue;
    const auto content = fmt::format("{}\n{}\n{}\n", owner_, attempt, boot_id());
    if (auto written = replace_file(file, content, Durability::Cached); !written) return written.error();
    static_cast<void>(replace_file(next_file, fmt::format("{}", next + 1), Durability::Cached));
    return next;
  }
  return Error{ErrorCode::Refused,
               fmt::format("UID_RANGE_EXHAUSTED: every user from {} to {} is in use; {} lists them",
                           range_.first, range_.last, folder_.string())};
}

void UidPool::release(std::uint32_t uid) { ::unlink((folder_ / fmt::format("{}", uid)).c_str()); }

void UidPool::reclaim() {
  const Fd lock(::open((folder_ / "lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) return;
  for (const Entry& entry : entries()) {
    if (!std::filesystem::exists(entry.owner) && !is_uid_in_use(entry.uid)) release(entry.uid);
  }
}

std::vector<UidPool::Entry> UidPool::owned() const {
  auto found = entries();
  std::erase_if(found, [this](const Entry& entry) { return entry.owner != owner_; });
  return found;
}

std::vector<UidPool::Entry> UidPool::entries() const {
  std::vector<Entry> entries;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error)) {
    const auto uid = number(file.path().filename().string());
    const auto content = uid ? read_file(file.path()) : Result<std::string>(std::string());
    const std::size_t end = content ? content->find('\n') : std::string::npos;
    if (!uid || end == std::string::npos) continue;
    const std::size_t second = content->find('\n', end + 1);
    entries.push_back({*uid, content->substr(0, end), content->substr(end + 1, second - end - 1)});
  }
  return entries;
}

}  // namespace hivemetal::runner
