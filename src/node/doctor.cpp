#include "node/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/client.h"
#include "node/ports.h"
#include "node/show/text.h"
#include "node/swarm_files.h"
#include "p2p/daemon_options.h"
#include "runner/baremetal/confinement.h"

namespace hivemetal::node {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kDiskBlocks = 128ULL << 20;
constexpr std::uint64_t kDiskWarns = 2ULL << 30;
constexpr rlim_t kFilesWanted = 4096;
constexpr int kImportTimeMs = 60'000;
constexpr double kMembershipWarns = 7 * 86400;

class Examination {
 public:
  Examination(fs::path directory, const Config& config, double now_unix)
      : directory_(fs::absolute(directory).lexically_normal()), config_(config), now_unix_(now_unix) {}

  void run() {
    check("p2pd", &Examination::p2pd);
    check("guard", &Examination::guard);
    check("environments", &Examination::environments);
    check("confinement", &Examination::confinement);
    check("folders", &Examination::folders);
    check("disk", &Examination::disk);
    check("open files", &Examination::open_files);
    check("membership", &Examination::membership);
    check("node", &Examination::running_node);
    check("ports", &Examination::ports);
  }

  std::vector<Finding> findings;
  std::vector<std::string> checked;

 private:
  void check(const char* name, void (Examination::*question)()) {
    current_ = name;
    checked.emplace_back(name);
    (this->*question)();
  }
  void blocks(std::string finding, std::string remedy) {
    findings.push_back({current_, true, std::move(finding), std::move(remedy)});
  }
  void weakens(std::string finding, std::string remedy) {
    findings.push_back({current_, false, std::move(finding), std::move(remedy)});
  }

  void p2pd() {
    if (!config_.p2pd.empty()) {
      if (::access(config_.p2pd.c_str(), X_OK) != 0)
        blocks(fmt::format("{}, which config.yaml names as p2pd, is no program", config_.p2pd),
               "correct p2pd: in config.yaml, or remove it");
      return;
    }
    if (const auto found = p2p::find_p2pd(); !found) blocks(found.error().message, "scripts/setup");
  }

  void guard() {
    if (const auto found = find_guard(config_); !found)
      blocks(found.error().message, "build hivemetal-guard beside hivemetal");
  }

  void environments();
  void confinement();

  void folders() {
    if (::geteuid() != 0) return;  // workers run as ourselves
    if (const auto closed = runner::closed_ancestor(directory_)) {
      blocks(fmt::format("workers run under users of their own and cannot pass {}", closed->string()),
             fmt::format("chmod o+x {}, or choose a directory elsewhere with --dir", closed->string()));
    }
    for (const auto& [name, folder] : config_.environments) {
      if (const auto closed = runner::closed_ancestor(folder)) {
        blocks(fmt::format("workers cannot reach the environment {} because they cannot pass {}", name,
                           closed->string()),
               fmt::format("chmod o+x {}", closed->string()));
      }
    }
  }

  void disk() {
    fs::path existing = directory_;
    std::error_code error;
    while (!fs::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
    struct statvfs status{};
    if (::statvfs(existing.c_str(), &status) != 0) return;
    const auto free = static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
    if (free >= kDiskWarns) return;
    Finding found{
        current_, free < kDiskBlocks,
        fmt::format("only {} are free at {}", show::size_text(static_cast<double>(free)), existing.string()),
        "free some space, or choose a directory elsewhere with --dir"};
    findings.push_back(std::move(found));
  }

  void open_files() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max == RLIM_INFINITY ||
        limit.rlim_max >= kFilesWanted)
      return;
    weakens(fmt::format("a process may have {} files open, too few for many peers", limit.rlim_max),
            fmt::format("ulimit -Hn {}, or LimitNOFILE= in the unit", kFilesWanted));
  }

  void membership() {
    std::error_code error;
    if (!fs::exists(directory_ / "version", error)) {
      blocks(fmt::format("there is no node in {} yet", directory_.string()),
             fmt::format("hivemetal swarm create NAME --dir {0}, or hivemetal join INVITE --dir {0}",
                         directory_.string()));
      return;
    }
    const auto directory = NodeDirectory::open(directory_);
    if (!directory) return blocks(directory.error().message, "see the message");
    const auto swarm = load_swarm(*directory);
    if (!swarm)
      return blocks(swarm.error().message,
                    fmt::format("hivemetal swarm create NAME --dir {0}, or hivemetal join INVITE --dir {0}",
                                directory_.string()));
    const double left = static_cast<double>(swarm->membership.expires()) - now_unix_;
    if (left <= 0) blocks("this node's membership has ended", "ask a member for an invite, and join again");
    if (left > 0 && left < kMembershipWarns)
      weakens(fmt::format("this node's membership ends in {}", show::duration_text(left)),
              "ask a member for an invite, and join again");
  }

  void running_node() {
    const auto reply = Client(directory_).get("/v1/doctor");
    if (!reply && reply.error().code == ErrorCode::Unavailable) {
      return weakens(
          fmt::format("no node is running in {}, so clock and swarm were not checked", directory_.string()),
          fmt::format("hivemetal node run --dir {}", directory_.string()));
    }
    running_ = true;
    if (!reply) return blocks(reply.error().message, "see the message");
    const auto found = reply->find("findings");
    if (found == reply->end() || !found->is_array()) return;
    for (const auto& item : *found) {
      findings.push_back({show::text_in(item, "check"), show::flag_in(item, "blocks", true),
                          show::text_in(item, "finding"), show::text_in(item, "remedy")});
    }
  }

  void ports() {
    if (running_) return;  // it has them itself
    for (const auto& address : config_.listen) {
      if (!port_is_free(address)) {
        blocks(fmt::format("another program listens at {}", address),
               "end that program, or choose another port under listen: in config.yaml");
      }
    }
  }

  fs::path directory_;
  const Config& config_;
  double now_unix_;
  std::string current_;
  bool running_ = false;
};

// How a program ended: its exit code, or nothing if it could not be started or took too long.
std::optional<int> exit_code_of(std::vector<std::string> command, int timeout_ms) {
  std::vector<char*> argv;
  for (auto& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  pid_t pid = 0;
  const int spawned = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) return std::nullopt;
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  pollfd waiting{pidfd, POLLIN, 0};
  const bool ended = pidfd >= 0 && ::poll(&waiting, 1, timeout_ms) == 1;
  if (!ended) ::kill(pid, SIGKILL);
  if (pidfd >= 0) ::close(pidfd);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended || !WIFEXITED(status)) return std::nullopt;
  return WEXITSTATUS(status);
}

void Examination::environments() {
  if (config_.environments.empty()) {
    weakens("this node offers no environment, so jobs with environment: {host: torch} do not come here",
            "hivemetal node run --environment torch=FOLDER, or environments: in config.yaml");
  }
  for (const auto& [name, folder] : config_.environments) {
    const auto python = fs::path(folder) / "bin/python";
    if (::access(python.c_str(), X_OK) != 0) {
      blocks(fmt::format("the environment {} has no program {}", name, python.string()),
             "name the folder of a Python virtual environment");
      continue;
    }
    const auto code = exit_code_of({python.string(), "-c", "import hivemind"}, kImportTimeMs);
    if (code != 0)
      weakens(fmt::format("the environment {} cannot import hivemind", name),
              fmt::format("{} -m pip install hivemind==1.1.12, or scripts/setup", python.string()));
  }
}

void Examination::confinement() {
  runner::BareMetalOptions options;
  options.directory = directory_;
  for (const auto& found : runner::probe(options).findings) weakens(found.consequence, found.remedy);
}

}  // namespace

json to_json(const Finding& finding) {
  return {{"check", finding.check},
          {"blocks", finding.blocks},
          {"finding", finding.finding},
          {"remedy", finding.remedy}};
}

std::vector<Finding> examine(const fs::path& directory, const Config& config, double now_unix,
                             std::vector<std::string>* checked) {
  Examination examination(directory, config, now_unix);
  examination.run();
  *checked = std::move(examination.checked);
  return std::move(examination.findings);
}

std::string doctor_text(const std::vector<Finding>& findings, const std::vector<std::string>& checked) {
  std::string names;
  for (const auto& name : checked) names += (names.empty() ? "" : ", ") + name;
  std::string out = fmt::format("checked: {}\n", names);
  if (findings.empty()) return out + "all is well\n";
  for (const auto& finding : findings) {
    out += fmt::format("\n{}  {}: {}\n       remedy: {}\n", finding.blocks ? "error" : "note ", finding.check,
                       finding.finding, finding.remedy);
  }
  return out;
}

}  // namespace hivemetal::node
