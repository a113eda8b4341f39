#include "runner/guard/launch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner/attempt/lifecycle.h"

namespace hivemetal::runner {

namespace {

// In the order of the launch. `mounts`, `landlock_build`, `landlock`, `seccomp` and `init` are the places of
// the confinement by namespaces, Landlock and seccomp.
enum class Step : std::uint8_t {
  Clone,
  CgroupAttach,
  CgroupVerify,
  Gate,
  Session,
  Mounts,
  LandlockBuild,
  Fds,
  OomAdj,
  Rlimits,
  Keyring,
  Affinity,
  Chdir,
  Ids,
  Pdeathsig,
  GuardGone,
  Nnp,
  Landlock,
  Seccomp,
  Init,
  Exec
};

constexpr const char* kStepNames[] = {
    "clone",     "cgroup_attach", "cgroup_verify", "gate",     "session",  "mounts", "landlock_build",
    "fds",       "oom_adj",       "rlimits",       "keyring",  "affinity", "chdir",  "ids",
    "pdeathsig", "guard_gone",    "nnp",           "landlock", "seccomp",  "init",   "exec"};

const char* name_of(Step step) { return kStepNames[static_cast<std::size_t>(step)]; }

struct Report {
  Step step;
  int error;
};

struct Pipes {
  Fd out_read, out_write, error_read, error_write, status_read, status_write, gate_read, gate_write;
};

bool make_pipe(Fd& read_end, Fd& write_end, int size) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  read_end = Fd(ends[0]);
  write_end = Fd(ends[1]);
  if (size > 0) ::fcntl(ends[0], F_SETPIPE_SZ, size);  // a wish: it only saves wake-ups
  return true;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& string : strings) list.push_back(const_cast<char*>(string.c_str()));
  list.push_back(nullptr);
  return list;
}

// The child between clone and exec. Every step either works or ends the process with a report.
class Child {
 public:
  Child(const GuardSpec& spec, const Pipes& pipes) : spec_(spec), pipes_(pipes) {}

  [[noreturn]] void run() {
    await_gate();
    session();
    fds();
    oom_adj();
    rlimits();
    keyring();
    check(Step::Chdir, ::chdir(spec_.work.c_str()) == 0);
    ids();
    // After the change of user, which clears it. The kernel ties it to the guard's only thread.
    check(Step::Pdeathsig, ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    guard_gone();
    check(Step::Nnp, ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    exec();
  }

 private:
  [[noreturn]] void fail(Step step, int error) {
    const Report report{step, error};
    static_cast<void>(!::write(pipes_.status_write.get(), &report, sizeof report));
    ::_exit(125);
  }

  void check(Step step, bool ok) {
    if (!ok) fail(step, errno);
  }

  // Limits are in place before any code of the job runs.
  void await_gate() {
    ::close(pipes_.gate_write.get());
    char byte = 0;
    const ssize_t got = ::read(pipes_.gate_read.get(), &byte, 1);
    if (got != 1) fail(Step::Gate, got == 0 ? ECANCELED : errno);
  }

  void session() {
    check(Step::Session, ::setsid() >= 0);
    ::umask(077);
    // What the guard ignores would stay ignored through exec.
    // Past the C library, which keeps two of them to itself and its hands off them.
    const unsigned long standard[4] = {};
    for (int number = 1; number < NSIG; ++number) ::syscall(SYS_rt_sigaction, number, standard, nullptr, 8);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  void fds() {
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    check(Step::Fds, null >= 0 && ::dup2(null, 0) == 0 && ::dup2(pipes_.out_write.get(), 1) == 1 &&
                         ::dup2(pipes_.error_write.get(), 2) == 2);
    check(Step::Fds, ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0);
  }

  // While still root: afterwards the process may not open this file.
  void oom_adj() {
    const auto written = write_kernel_file("/proc/self/oom_score_adj", "500");
    if (!written) fail(Step::OomAdj, errno);
  }

  // Never above the guard's own hard limit, which only CAP_SYS_RESOURCE could raise.
  void limit(__rlimit_resource resource, rlim_t value) {
    rlimit current{};
    check(Step::Rlimits, ::getrlimit(resource, &current) == 0);
    value = std::min(value, current.rlim_max);
    const rlimit wanted{value, value};
    check(Step::Rlimits, ::setrlimit(resource, &wanted) == 0);
  }

  void rlimits() {
    limit(RLIMIT_CORE, 1);  // exactly 1 also keeps a core_pattern helper from starting; 0 does not
    if (spec_.file_size_max > 0) limit(RLIMIT_FSIZE, spec_.file_size_max);
    if (spec_.processes_max > 0) limit(RLIMIT_NPROC, spec_.processes_max);
    limit(RLIMIT_NOFILE, 4096);
    limit(RLIMIT_SIGPENDING, 4096);
    limit(RLIMIT_MSGQUEUE, 819200);
    limit(RLIMIT_MEMLOCK, 8 << 20);
    limit(RLIMIT_RTPRIO, 0);
    limit(RLIMIT_NICE, 0);
  }

  void keyring() {
    const long joined = ::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
    check(Step::Keyring, joined >= 0 || errno == ENOSYS || errno == EPERM || errno == EDQUOT);
  }

  void ids() {
    if (!spec_.uid) return;
    const uid_t id = *spec_.uid;
    check(Step::Ids,
          ::setgroups(0, nullptr) == 0 && ::setresgid(id, id, id) == 0 && ::setresuid(id, id, id) == 0);
    uid_t real = 0, effective = 0, saved = 0;
    check(Step::Ids, ::getresuid(&real, &effective, &saved) == 0);
    if (real != id || effective != id || saved != id || ::getgroups(0, nullptr) != 0) fail(Step::Ids, EPERM);
    if (::setuid(0) == 0) fail(Step::Ids, EPERM);
  }

  // By the gate's write end, which only the guard holds: getppid() says 0 in a pid namespace.
  void guard_gone() {
    pollfd gate{pipes_.gate_read.get(), 0, 0};
    if (::poll(&gate, 1, 0) > 0 && (gate.revents & POLLHUP) != 0) ::_exit(124);
  }

  [[noreturn]] void exec() {
    std::vector<std::string> environment;
    for (const auto& [name, value] : spec_.environment) environment.push_back(name + "=" + value);
    const auto argv = pointers(spec_.argv);
    const auto envp = pointers(environment);
    const std::string& program = spec_.argv[0];
    if (program.find('/') != std::string::npos) {
      ::execve(program.c_str(), argv.data(), envp.data());
      fail(Step::Exec, errno);
    }
    const auto path = spec_.environment.find("PATH");
    std::string_view rest = path == spec_.environment.end() ? std::string_view() : path->second;
    int error = ENOENT;  // the most telling one: found but not permitted beats not found
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(':'), rest.size());
      const std::string candidate = std::string(rest.substr(0, end)) + "/" + program;
      if (end > 0) ::execve(candidate.c_str(), argv.data(), envp.data());
      if (end > 0 && errno != ENOENT && errno != ENOTDIR) error = errno;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    fail(Step::Exec, error);
  }

  const GuardSpec& spec_;
  const Pipes& pipes_;
};

pid_t clone_into(const std::string& cgroup2) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  Fd cgroup;
  if (!cgroup2.empty()) {
    cgroup = Fd(::open(cgroup2.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!cgroup) return -1;
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup.get());
  }
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  return static_cast<pid_t>(pid);
}

// Moves the waiting child into the v1 places, and looks whether it is in every place it should be in.
std::optional<Report> attach(const GuardSpec& spec, pid_t pid) {
  for (const std::string& cgroup : spec.cgroup1) {
    if (!write_kernel_file(cgroup + "/cgroup.procs", std::to_string(pid)))
      return Report{Step::CgroupAttach, errno};
  }
  std::vector<std::string> all = spec.cgroup1;
  if (!spec.cgroup2.empty()) all.push_back(spec.cgroup2);
  for (const std::string& cgroup : all) {
    const auto pids = pids_in_cgroup(cgroup);
    if (std::find(pids.begin(), pids.end(), pid) == pids.end()) return Report{Step::CgroupVerify, ESRCH};
  }
  return std::nullopt;
}

// What the child reports; empty once exec has closed the pipe.
std::optional<Report> await_exec(const Pipes& pipes) {
  Report report{};
  ssize_t got = 0;
  do {
    got = ::read(pipes.status_read.get(), &report, sizeof report);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return std::nullopt;
  if (got != sizeof report) return Report{Step::Exec, EIO};
  return report;
}

Launch failed(const GuardSpec& spec, const Report& report, pid_t pid) {
  if (pid > 0) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  std::string what;
  if (report.step == Step::Exec) what = spec.argv[0];
  if (report.step == Step::Chdir) what = spec.work;
  Launch launch;
  launch.failure = launch_failure(name_of(report.step), report.error, what);
  return launch;
}

}  // namespace

Launch launch(const GuardSpec& spec) {
  Pipes pipes;
  if (!make_pipe(pipes.out_read, pipes.out_write, 256 << 10) ||
      !make_pipe(pipes.error_read, pipes.error_write, 0) ||
      !make_pipe(pipes.status_read, pipes.status_write, 0) ||
      !make_pipe(pipes.gate_read, pipes.gate_write, 0)) {
    return failed(spec, {Step::Fds, errno}, 0);
  }
  const pid_t pid = clone_into(spec.cgroup2);
  if (pid < 0) return failed(spec, {Step::Clone, errno}, 0);
  if (pid == 0) Child(spec, pipes).run();

  pipes.out_write.reset();
  pipes.error_write.reset();
  pipes.status_write.reset();
  if (const auto report = attach(spec, pid)) return failed(spec, *report, pid);
  if (::write(pipes.gate_write.get(), "g", 1) != 1) return failed(spec, {Step::Gate, errno}, pid);
  if (const auto report = await_exec(pipes)) return failed(spec, *report, pid);

  Launch launched;
  const auto stat = stat_of(pid);
  launched.worker = {pid, stat ? stat->id.start_time : 0};
  ::fcntl(pipes.out_read.get(), F_SETFL, O_NONBLOCK);
  ::fcntl(pipes.error_read.get(), F_SETFL, O_NONBLOCK);
  launched.standard_output = std::move(pipes.out_read);
  launched.standard_error = std::move(pipes.error_read);
  return launched;
}

}  // namespace hivemetal::runner
