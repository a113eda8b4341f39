#include "p2p/daemon_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/log.h"

namespace hivemetal::p2p {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kLinesKept = 20;

std::string text_of_errno(int number) { return std::generic_category().message(number); }

// Our environment, with what Hivemind sets for p2pd.
std::vector<std::string> environment() {
  std::vector<std::string> variables;
  bool level = false;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view variable = *entry;
    if (variable.starts_with("GOLOG_LOG_FMT=")) continue;
    level = level || variable.starts_with("GOLOG_LOG_LEVEL=");
    variables.emplace_back(variable);
  }
  variables.emplace_back("GOLOG_LOG_FMT=json");
  if (!level) variables.emplace_back("GOLOG_LOG_LEVEL=error");
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// posix_spawn with `output` as stdout and stderr, in a process group of its own (a Ctrl-C is ours to handle),
// with no descriptor of ours and no signal blocked or ignored. Returns errno, 0 for success.
int spawn_process(std::vector<std::string> command, int output, pid_t& pid) {
  auto variables = environment();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, 1);
  posix_spawn_file_actions_adddup2(&actions, output, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const int failure = ::posix_spawn(&pid, command[0].c_str(), &actions, &attributes,
                                    pointers_to(command).data(), pointers_to(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return failure;
}

}  // namespace

DaemonProcess::DaemonProcess(asio::any_io_executor executor, Clock& clock)
    : clock_(clock), output_(executor), pidfd_(executor), changed_(executor), tasks_(executor) {}

DaemonProcess::~DaemonProcess() {
  if (!running()) return;
  kill();
  ::waitpid(pid_, nullptr, 0);
}

void DaemonProcess::kill() {
  if (running()) ::kill(pid_, SIGKILL);
}

Result<void> DaemonProcess::spawn(const std::vector<std::string>& command) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return Error{ErrorCode::Unavailable, "pipe for p2pd: " + text_of_errno(errno)};
  }
  output_.assign(ends[0]);
  pid_t pid = 0;
  const int failure = spawn_process(command, ends[1], pid);
  ::close(ends[1]);
  if (failure != 0) {
    return Error{failure == ENOENT ? ErrorCode::NotFound : ErrorCode::Unavailable,
                 fmt::format("start {}: {}", command[0], text_of_errno(failure))};
  }
  const int descriptor =
      static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));  // glibc 2.36 declares it for C only
  if (descriptor < 0) {
    const int reason = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return Error{ErrorCode::Unavailable, "pidfd_open: " + text_of_errno(reason)};
  }
  pid_ = pid;
  pidfd_.assign(descriptor);
  tasks_.spawn("p2pd's output", read_output());
  tasks_.spawn("p2pd's end", watch_exit());
  return {};
}

asio::awaitable<Result<void>> DaemonProcess::start(std::vector<std::string> command,
                                                   Clock::TimePoint deadline) {
  log::debug("p2p: start {}", fmt::join(command, " "));
  const auto spawned = spawn(command);
  if (!spawned) co_return spawned.error();
  const auto ready = co_await with_deadline(clock_, deadline, wait_ready());
  if (ready) co_return ready;
  if (ready.error().code != ErrorCode::TimedOut) co_return ready;
  const std::string words = last_words();
  co_await stop(0s);
  co_return Error{ErrorCode::TimedOut, fmt::format("p2pd did not become ready in time{}", words)};
}

asio::awaitable<Result<void>> DaemonProcess::wait_ready() {
  while (!ready_ && !(exited_ && output_ended_)) co_await changed_.wait();
  if (ready_) co_return Result<void>();
  co_return Error{ErrorCode::Unavailable, fmt::format("p2pd ended, {}{}", end_, last_words())};
}

asio::awaitable<Result<void>> DaemonProcess::wait_exit() {
  while (!exited_) co_await changed_.wait();
  co_return Result<void>();
}

asio::awaitable<void> DaemonProcess::stop(Clock::Duration grace) {
  stopping_ = true;
  if (running() && grace > 0s) {
    ::kill(pid_, SIGTERM);
    (void)co_await with_deadline(clock_, clock_.now() + grace, wait_exit());
  }
  if (running()) {
    kill();
    (void)co_await with_deadline(clock_, clock_.now() + 5s, wait_exit());
  }
  co_await tasks_.close();
}

asio::awaitable<void> DaemonProcess::read_output() {
  LineReader reader;
  std::array<char, 4096> buffer;
  for (;;) {
    const auto [error, count] = co_await output_.async_read_some(asio::buffer(buffer), use_result);
    for (const std::string& line : reader.feed(std::string_view(buffer.data(), count))) {
      note(parse_daemon_line(line));
    }
    if (error) break;
  }
  output_ended_ = true;
  changed_.notify_all();
}

void DaemonProcess::note(const DaemonLine& line) {
  lines_.push_back(line.text);
  if (lines_.size() > kLinesKept) lines_.pop_front();
  if (line.kind == DaemonLine::Kind::Ready) {
    ready_ = true;
    changed_.notify_all();
  }
  if (line.kind == DaemonLine::Kind::Error && ready_ && !stopping_) {
    log::warn("p2pd: {}", line.text);
  } else {
    log::debug("p2pd: {}", line.text);
  }
}

asio::awaitable<void> DaemonProcess::watch_exit() {
  (void)co_await pidfd_.async_wait(asio::posix::stream_descriptor::wait_read, use_result);
  reap();
}

void DaemonProcess::reap() {
  siginfo_t info{};
  if (exited_ || ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
    return;
  exited_ = true;
  end_ = fmt::format("{} {}", info.si_code == CLD_EXITED ? "exit status" : "signal", info.si_status);
  changed_.notify_all();
}

// ": " and its last two lines that are not JSON, or nothing.
std::string DaemonProcess::last_words() const {
  std::vector<std::string> words;
  for (const std::string& line : lines_) {
    if (!line.starts_with("{")) words.push_back(line);
  }
  if (words.size() > 2) words.erase(words.begin(), words.end() - 2);
  return words.empty() ? "" : fmt::format(": {}", fmt::join(words, "; "));
}

}  // namespace hivemetal::p2p
