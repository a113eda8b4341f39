#include "runner/guard/guard.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <list>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner/attempt/files.h"
#include "runner/attempt/lifecycle.h"
#include "runner/attempt/log_frames.h"
#include "runner/attempt/log_writer.h"
#include "runner/attempt/messages.h"
#include "runner/guard/launch.h"

namespace hivemetal::runner {

namespace {

constexpr std::size_t kLinksMax = 8;
constexpr std::int64_t kRetryRecordNs = 5'000'000'000;
constexpr std::uint64_t kRecordReserve = 16 << 10;

// A daemon at the other end of a socket.
struct Link {
  Fd fd;
  std::string input;
  bool broken = false;
};

// The next whole line of `input`, without its newline.
std::optional<std::string> take_line(std::string& input) {
  const std::size_t end = input.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = input.substr(0, end);
  input.erase(0, end + 1);
  return line;
}

// Reads what is there; false at the end of the stream or a line of unreasonable length.
bool fill(Link& link) {
  char buffer[16384];
  while (true) {
    const ssize_t got = ::recv(link.fd.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    link.input.append(buffer, static_cast<std::size_t>(got));
    if (link.input.size() > kMessageSizeMax + 4096) return false;
  }
}

// The number after `key` in a file of lines "key value"; 0 if it is not there.
std::uint64_t number_in(const std::string& path, std::string_view key) {
  const auto text = read_file(path);
  if (!text) return 0;
  const std::size_t at = key.empty() ? 0 : ("\n" + *text).find("\n" + std::string(key) + " ");
  if (at == std::string::npos) return 0;
  return std::strtoull(text->c_str() + at + (key.empty() ? 0 : key.size() + 1), nullptr, 10);
}

class Guard {
 public:
  Guard(GuardSpec spec, Link first);

  int run();

 private:
  void open_control();
  void leave_service();
  void watch_memory();
  void start();
  void fail(ExitRecord exit);
  void loop();
  void accept_link();
  void serve(Link& link);
  void obey(const Command& command, Link& link);
  void send(Link& link);
  void tell_all();
  void reap();
  void drain(Fd& pipe, std::uint8_t stream);
  void act();
  void terminate();
  void kill_all();
  void finish();
  void write_exit();
  void arm_timer();
  GuardState state() const;

  GuardSpec spec_;
  std::list<Link> links_;
  Fd control_, signals_, timer_, oom_, oom_control_;
  Fd output_, error_;
  LogWriter log_;
  std::optional<Lifecycle> life_;  // once the program runs
  ProcessId worker_;
  double started_ = unix_time_now();
  std::optional<ExitRecord> exit_;
  bool recorded_ = false;
  bool killed_before_ = false;
};

Guard::Guard(GuardSpec spec, Link first)
    : spec_(std::move(spec)), log_(spec_.folder + "/log", spec_.log_bytes_max) {
  links_.push_back(std::move(first));
}

// Bound by way of /proc/self/fd, because a socket's path is at most 107 bytes and ours may be longer.
void Guard::open_control() {
  const Fd folder(::open(spec_.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string path = "/proc/self/fd/" + std::to_string(folder.get()) + "/guard.sock";
  ::unlink(path.c_str());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket && ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      ::listen(socket.get(), 4) == 0) {
    control_ = std::move(socket);
    return;
  }
  spec_.degradations.push_back("control_socket: " + errno_name(errno) +
                               "; a restarted daemon cannot adopt this");
}

// Into a cgroup of our own, so that stopping the daemon's service does not stop us.
void Guard::leave_service() {
  if (spec_.guard_cgroup.empty() || write_kernel_file(spec_.guard_cgroup + "/cgroup.procs", "0")) return;
  spec_.degradations.push_back("guard_cgroup: stopping the daemon's service may stop this attempt");
}

// v1 has no memory.oom.group: the guard hears of the limit and kills the rest itself.
void Guard::watch_memory() {
  if (spec_.memory1.empty()) return;
  oom_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  oom_control_ = Fd(::open((spec_.memory1 + "/memory.oom_control").c_str(), O_RDONLY | O_CLOEXEC));
  const std::string line = std::to_string(oom_.get()) + " " + std::to_string(oom_control_.get());
  if (!write_kernel_file(spec_.memory1 + "/cgroup.event_control", line)) {
    oom_.reset();
    spec_.degradations.push_back(
        "oom_group: a process alone dies at the memory limit, not the whole attempt");
  }
}

GuardState Guard::state() const {
  GuardState state;
  state.attempt = spec_.attempt;
  state.worker = worker_;
  if (exit_) {
    state.phase = GuardState::Phase::Ended;
    state.exit = exit_;
  } else if (life_) {
    state.phase = life_->stopping() ? GuardState::Phase::Stopping : GuardState::Phase::Running;
  }
  return state;
}

void Guard::send(Link& link) {
  const std::string line = encode(state()) + "\n";
  const ssize_t sent = ::send(link.fd.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(line.size())) link.broken = true;
}

void Guard::tell_all() {
  for (Link& link : links_) send(link);
}

void Guard::start() {
  if (life_ || exit_) return;
  Launch launched = launch(spec_);
  if (launched.failure) return fail(*launched.failure);
  worker_ = launched.worker;
  output_ = std::move(launched.standard_output);
  error_ = std::move(launched.standard_error);
  started_ = unix_time_now();
  life_.emplace(spec_.grace_ms, spec_.lease_ms, boottime_ns());
  tell_all();
  if (spec_.cgroup1.empty()) leave_service();
  reserve_space(spec_.folder + "/reserve", kRecordReserve);
}

void Guard::fail(ExitRecord exit) {
  exit_ = std::move(exit);
  write_exit();
}

void Guard::obey(const Command& command, Link& link) {
  const std::int64_t now = boottime_ns();
  switch (command.kind) {
    case Command::Kind::Hello:
      send(link);
      break;
    case Command::Kind::Go:
      start();
      break;
    case Command::Kind::Renew:
      if (life_ && command.duration_ms > 0) life_->renew(command.duration_ms, now);
      break;
    case Command::Kind::Stop:
      if (life_) {
        life_->stop(command.reason, command.duration_ms, now);
        tell_all();
      } else if (!exit_) {
        ExitRecord exit;
        exit.reason = "STOPPED";
        fail(std::move(exit));
      }
      break;
  }
}

void Guard::serve(Link& link) {
  const bool open = fill(link);
  while (const auto line = take_line(link.input)) {
    const auto command = decode_command(*line);
    if (!command) {
      link.broken = true;  // whoever says what we do not know is no daemon of ours
      return;
    }
    obey(*command, link);
  }
  if (!open) link.broken = true;
}

void Guard::accept_link() {
  Fd fd(::accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known = ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  if (!known || (peer.uid != 0 && peer.uid != ::geteuid()) || links_.size() >= kLinksMax) return;
  links_.push_back({std::move(fd), "", false});
}

void Guard::drain(Fd& pipe, std::uint8_t stream) {
  static char buffer[kFrameBytesMax];
  // Bounded, so that a chatty program does not keep us from hearing the daemon.
  for (int i = 0; i < 16 && pipe; ++i) {
    const ssize_t got = ::read(pipe.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return pipe.reset();
    log_.append(stream, {buffer, static_cast<std::size_t>(got)});
  }
}

// As a subreaper we inherit every process that the program leaves behind; no child left means nothing left.
void Guard::reap() {
  while (true) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid > 0 && pid == worker_.pid) life_->program_ended(status, boottime_ns());
    if (pid < 0 && errno == ECHILD) life_->all_gone();
    if (pid <= 0) return;
  }
}

void Guard::terminate() {
  if (::kill(-worker_.pid, SIGTERM) != 0) ::kill(worker_.pid, SIGTERM);
  tell_all();
}

void Guard::kill_all() {
  const bool by_cgroup = (!spec_.cgroup2.empty() && kill_cgroup(spec_.cgroup2)) ||
                         (!spec_.freezer.empty() && kill_cgroup(spec_.freezer));
  if (by_cgroup && !std::exchange(killed_before_, true)) return;
  kill_until_empty(
      [] {
        auto found = descendants_of(::getpid(), all_processes());
        std::erase_if(found, [](const ProcessStat& process) { return process.state == 'Z'; });
        return found;
      },
      5);
}

void Guard::act() {
  while (life_ && !exit_) {
    reap();
    switch (life_->next(boottime_ns())) {
      case Lifecycle::Action::None:
        return;
      case Lifecycle::Action::Terminate:
        terminate();
        break;
      case Lifecycle::Action::Kill:
        kill_all();
        reap();
        break;
      case Lifecycle::Action::Finish:
        finish();
        break;
    }
  }
}

void Guard::finish() {
  while (output_ || error_) {
    const bool had_output = static_cast<bool>(output_), had_error = static_cast<bool>(error_);
    drain(output_, 1);
    drain(error_, 2);
    if (had_output == static_cast<bool>(output_) && had_error == static_cast<bool>(error_)) {
      // Nobody is left to write, unless the end is UNKILLABLE: then what is there now must do.
      pollfd ends[] = {{output_.get(), POLLIN, 0}, {error_.get(), POLLIN, 0}};
      if (::poll(ends, 2, 0) <= 0) break;
    }
  }
  log_.finish();
  std::uint64_t oom_kills = 0;
  ExitRecord exit;
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  if (!spec_.memory1.empty()) {
    oom_kills = number_in(spec_.memory1 + "/memory.oom_control", "oom_kill");
    exit.memory_peak_bytes = number_in(spec_.memory1 + "/memory.max_usage_in_bytes", "");
  } else if (!spec_.memory2.empty()) {
    oom_kills = number_in(spec_.memory2 + "/memory.events", "oom_kill");
    exit.memory_peak_bytes = number_in(spec_.memory2 + "/memory.peak", "");
  }
  const std::uint64_t memory_peak = exit.memory_peak_bytes;
  exit = life_->conclude(oom_kills);
  exit.memory_peak_bytes =
      memory_peak != 0 ? memory_peak : static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  if (!spec_.cgroup2.empty()) exit.cpu_usec = number_in(spec_.cgroup2 + "/cpu.stat", "usage_usec");
  if (exit.cpu_usec == 0) {
    exit.cpu_usec = static_cast<std::uint64_t>((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000 +
                                               usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  }
  if (exit.reason == "UNKILLABLE") {
    for (const ProcessStat& process : descendants_of(::getpid(), all_processes())) {
      exit.detail += std::to_string(process.id.pid) + " " + process.state + "; ";
    }
  }
  fail(std::move(exit));
}

// The record is what everything waits for: on a full disk it takes the space set aside for it.
void Guard::write_exit() {
  exit_->started_unix = started_;
  exit_->ended_unix = unix_time_now();
  exit_->log_dropped_bytes = log_.dropped_bytes();
  exit_->degradations = spec_.degradations;
  const std::string path = spec_.folder + "/exit.json";
  recorded_ = static_cast<bool>(replace_file(path, encode(*exit_)));
  ::unlink((spec_.folder + "/reserve").c_str());
  if (!recorded_) recorded_ = static_cast<bool>(replace_file(path, encode(*exit_)));
  tell_all();
}

void Guard::arm_timer() {
  std::int64_t at = life_ && !exit_ ? life_->wake_at() : std::numeric_limits<std::int64_t>::max();
  if (exit_ && !recorded_) at = boottime_ns() + kRetryRecordNs;
  itimerspec time{};
  if (at != std::numeric_limits<std::int64_t>::max()) {
    at = std::max<std::int64_t>(at, 1);
    time.it_value = {at / 1'000'000'000, at % 1'000'000'000};
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &time, nullptr);
}

void Guard::loop() {
  arm_timer();
  std::vector<pollfd> fds{{signals_.get(), POLLIN, 0}, {timer_.get(), POLLIN, 0},
                          {control_.get(), POLLIN, 0}, {oom_.get(), POLLIN, 0},
                          {output_.get(), POLLIN, 0},  {error_.get(), POLLIN, 0}};
  const std::size_t first_link = fds.size();
  for (const Link& link : links_) fds.push_back({link.fd.get(), POLLIN, 0});
  if (::poll(fds.data(), fds.size(), -1) < 0) return;

  std::uint64_t count = 0;
  signalfd_siginfo signal{};
  while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
    // The machine shuts down, or somebody wants us gone: the attempt goes first.
    if (signal.ssi_signo == SIGTERM && life_) life_->stop("STOPPED", -1, boottime_ns());
  }
  if (fds[1].revents != 0) static_cast<void>(!::read(timer_.get(), &count, sizeof count));
  if (fds[3].revents != 0 && ::read(oom_.get(), &count, sizeof count) == sizeof count && life_) {
    life_->out_of_memory(boottime_ns());
  }
  if (fds[4].revents != 0) drain(output_, 1);
  if (fds[5].revents != 0) drain(error_, 2);
  std::size_t index = first_link;
  for (Link& link : links_) {
    if (fds[index++].revents != 0) serve(link);
  }
  links_.remove_if([](const Link& link) { return link.broken; });
  if (fds[2].revents != 0) accept_link();
  if (exit_ && !recorded_ && fds[1].revents != 0) write_exit();
  act();
}

int Guard::run() {
  // A move between cgroups waits for all CPUs, 10 ms and more. Where the worker has to be moved too (v1) ours
  // comes first, while the daemon still writes its record, and theirs are quick then; on pure v2 it comes
  // last.
  if (!spec_.cgroup1.empty()) leave_service();
  if (!write_kernel_file("/proc/self/oom_score_adj", "-900")) {
    spec_.degradations.push_back("oom_protect: the guard may die when the machine runs out of memory");
  }
  sigset_t mask;
  ::sigemptyset(&mask);
  ::sigaddset(&mask, SIGCHLD);
  ::sigaddset(&mask, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &mask, nullptr);
  signals_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  timer_ = Fd(::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  open_control();
  watch_memory();
  serve(links_.front());  // what came together with the spec
  while (!recorded_) {
    // Without a daemon before the program runs nobody will ever say go.
    if (!life_ && !exit_ && (links_.empty() || links_.front().broken)) {
      fail(launch_failure("gate", ECANCELED, "the daemon is gone"));
      continue;
    }
    loop();
  }
  ::unlink((spec_.folder + "/guard.sock").c_str());
  return 0;
}

// Waits for the first line on `link`.
std::optional<std::string> await_line(Link& link, int timeout_ms) {
  const std::int64_t end = boottime_ns() + std::int64_t{timeout_ms} * 1'000'000;
  while (true) {
    if (auto line = take_line(link.input)) return line;
    const auto left = static_cast<int>((end - boottime_ns()) / 1'000'000);
    pollfd fd{link.fd.get(), POLLIN, 0};
    if (left <= 0 || ::poll(&fd, 1, left) <= 0 || !fill(link)) return take_line(link.input);
  }
}

}  // namespace

int run_guard(int fd) {
  ::umask(077);
  for (const int number : {SIGPIPE, SIGHUP, SIGINT, SIGQUIT}) ::signal(number, SIG_IGN);
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return 1;
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  Link link{Fd(fd), "", false};
  const auto line = await_line(link, 10'000);
  if (!line) {
    std::fprintf(stderr, "hivemetal-guard: no spec came on fd %d within 10 s\n", fd);
    return 1;
  }
  auto spec = decode_guard_spec(*line);
  if (!spec) {
    std::fprintf(stderr, "hivemetal-guard: %s\n", spec.error().message.c_str());
    return 1;
  }
  return Guard(std::move(*spec), std::move(link)).run();
}

}  // namespace hivemetal::runner
