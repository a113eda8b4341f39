#include "runner/attempt/lifecycle.h"

#include <algorithm>
#include <cerrno>
#include <signal.h>
#include <sys/wait.h>
#include <utility>

#include "runner/attempt/files.h"

namespace hivemetal::runner {

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
// For what the program left behind. None after a signal: the attempt has failed, and its end is waited for.
constexpr std::int64_t kLingerMs = 1'000;
constexpr std::int64_t kGiveUpMs = 30'000;  // after the first kill
constexpr std::int64_t kKillAgainMsMax = 1'000;

}  // namespace

Lifecycle::Lifecycle(std::int64_t grace_ms, std::int64_t lease_ms, std::int64_t now) : grace_ms_(grace_ms) {
  if (lease_ms > 0) renew(lease_ms, now);
}

void Lifecycle::renew(std::int64_t lease_ms, std::int64_t now) { lease_end_ = now + lease_ms * kMillisecond; }

void Lifecycle::stop(std::string reason, std::int64_t grace_ms, std::int64_t now) {
  if (ended_first_) {
    kill_at_ = std::min(kill_at_, now);
    return;
  }
  if (stop_reason_.empty()) {
    stop_reason_ = reason.empty() ? "STOPPED" : std::move(reason);
    terminate_ = true;
  }
  kill_at_ = std::min(kill_at_, now + (grace_ms < 0 ? grace_ms_ : grace_ms) * kMillisecond);
}

void Lifecycle::out_of_memory(std::int64_t now) {
  if (ended_first_) return;
  oom_ = true;
  kill_at_ = std::min(kill_at_, now);
}

void Lifecycle::program_ended(int wait_status, std::int64_t now) {
  if (code_ || signal_) return;
  if (WIFEXITED(wait_status)) code_ = WEXITSTATUS(wait_status);
  if (WIFSIGNALED(wait_status)) signal_ = WTERMSIG(wait_status);
  ended_first_ = !stopping();
  kill_at_ = std::min(kill_at_, signal_ ? now : now + kLingerMs * kMillisecond);
}

Lifecycle::Action Lifecycle::next(std::int64_t now) {
  if (gone_ || unkillable_) return Action::Finish;
  if (lease_end_ <= now && !stopping() && !ended_first_) stop("LEASE_EXPIRED", -1, now);
  if (std::exchange(terminate_, false)) return Action::Terminate;
  if (give_up_at_ <= now) {
    unkillable_ = true;
    return Action::Finish;
  }
  if (kill_at_ > now) return Action::None;
  killed_ = true;
  kill_at_ = now + kill_again_ms_ * kMillisecond;
  kill_again_ms_ = std::min(2 * kill_again_ms_, kKillAgainMsMax);
  if (give_up_at_ == kNever) give_up_at_ = now + kGiveUpMs * kMillisecond;
  return Action::Kill;
}

std::int64_t Lifecycle::wake_at() const {
  const bool lease_counts = !stopping() && !ended_first_;
  return std::min({kill_at_, give_up_at_, lease_counts ? lease_end_ : kNever});
}

ExitRecord Lifecycle::conclude(std::uint64_t oom_kills) const {
  ExitRecord exit;
  exit.code = code_;
  exit.signal = signal_;
  exit.oom_kills = oom_kills;
  exit.killed_at_end = ended_first_ && killed_;
  if (unkillable_) {
    exit.reason = "UNKILLABLE";
  } else if (oom_ || (oom_kills > 0 && signal_ == SIGKILL)) {
    exit.reason = "OOM";
  } else if (!stop_reason_.empty()) {
    exit.reason = is_reason(stop_reason_) ? stop_reason_ : "STOPPED";
    if (exit.reason != stop_reason_) exit.detail = stop_reason_;
  } else if (signal_ == SIGXFSZ) {
    exit.reason = "DISK_FULL";
    exit.detail = "a file reached the disk limit";
  } else {
    exit.reason = signal_ ? "SIGNAL" : "EXIT";
  }
  return exit;
}

ExitRecord launch_failure(std::string_view step, int error, std::string_view what) {
  ExitRecord exit;
  exit.reason = step == "exec" ? "EXEC_FAILED" : "LAUNCH_FAILED";
  if (step == "exec") exit.code = error == ENOENT ? 127 : 126;
  exit.detail = std::string(step) + (what.empty() ? "" : " ") + std::string(what) + ": " + errno_name(error);
  return exit;
}

bool is_reason(std::string_view word) {
  static constexpr std::string_view kReasons[] = {"EXIT",          "SIGNAL",      "OOM",        "TIME_LIMIT",
                                                  "LEASE_EXPIRED", "STOPPED",     "DISK_FULL",  "LOG_FLOOD",
                                                  "LAUNCH_FAILED", "EXEC_FAILED", "LOST_GUARD", "LOST_REBOOT",
                                                  "UNKNOWN_EXIT",  "UNKILLABLE"};
  return std::find(std::begin(kReasons), std::end(kReasons), word) != std::end(kReasons);
}

}  // namespace hivemetal::runner
