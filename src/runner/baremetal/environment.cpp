#include "runner/baremetal/environment.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace hivemetal::runner {

namespace {

bool is_inside(const std::string& path) {
  if (path.empty() || path.size() > 4000 || path.front() == '/' || path.find('\0') != std::string::npos)
    return false;
  const std::filesystem::path parts(path);
  return path.back() != '/' && std::none_of(parts.begin(), parts.end(),
                                            [](const auto& part) { return part == ".." || part == "."; });
}

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

}  // namespace

std::map<std::string, std::string> environment_of(const AttemptSpec& spec, const std::string& work,
                                                  const std::string& temporary, const std::string& kept) {
  std::map<std::string, std::string> variables{{"PATH", "/usr/bin:/bin"},
                                               {"LANG", "C.UTF-8"},
                                               {"USER", "job"},
                                               {"LOGNAME", "job"},
                                               {"HOME", work},
                                               {"TMPDIR", temporary},
                                               {"HIVEMETAL_ATTEMPT", spec.id}};
  // Without these every worker starts a thread per core of the machine.
  const auto threads = fmt::format("{}", std::max(1, static_cast<int>(std::floor(spec.limits.cpus))));
  for (const char* name :
       {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"}) {
    variables[name] = threads;
  }
  if (!kept.empty()) variables["HIVEMETAL_CHECKPOINTS"] = kept;
  for (const auto& [name, value] : spec.environment) variables[name] = value;
  return variables;
}

Result<void> check(const AttemptSpec& spec) {
  if (!is_valid_attempt_id(spec.id)) {
    return invalid(
        fmt::format("'{}' is no attempt id: 1 to 64 of a-z 0-9 . -, first a letter or digit", spec.id));
  }
  if (spec.argv.empty() || spec.argv[0].empty()) return invalid("argv is empty: name the program to run");
  for (const auto& argument : spec.argv) {
    if (argument.find('\0') != std::string::npos) return invalid("an argument holds a NUL byte");
  }
  for (const auto& [name, value] : spec.environment) {
    if (name.empty() || name.find('=') != std::string::npos ||
        (name + value).find('\0') != std::string::npos) {
      return invalid(fmt::format("environment variable '{}' is empty, or holds '=' or a NUL byte", name));
    }
  }
  for (const AttemptFile& file : spec.files) {
    if (!is_inside(file.path)) {
      return invalid(fmt::format("file '{}' is not a path inside the work folder", file.path));
    }
  }
  const Limits& limits = spec.limits;
  if (!(limits.cpus > 0) || limits.cpus > 1e5) return invalid(fmt::format("limit cpus = {}", limits.cpus));
  if (limits.memory_bytes < 1 << 20) return invalid("limit memory is below 1 MiB");
  if (limits.pids == 0) return invalid("limit pids is 0");
  if (limits.disk_bytes == 0) return invalid("limit disk is 0");
  if (spec.grace.count() < 0 || spec.lease.count() < 0) return invalid("grace and lease may not be negative");
  if (!spec.keep.empty() && !is_valid_attempt_id(spec.keep)) {
    return invalid(fmt::format("'{}' is no name for a kept folder", spec.keep));
  }
  return {};
}

}  // namespace hivemetal::runner
