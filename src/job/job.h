// What a user asks the swarm to run: the job file and its fields. docs/formats/job-file.md lists every key.
//
// One strict reader serves the YAML file of a user and the JSON that nodes send each other: same keys, same
// units, same checks. A key that is unknown, twice there or of a wrong kind is an error, never a default.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/bytes.h"

namespace hivemetal::job {

enum class Kind { Train, Task };
enum class Runtime { Baremetal, Docker };
enum class Egress { None, Swarm, Internet };
enum class PortKind { Http, Gradio, Jupyter, Kernel, Tcp };

std::string_view name_of(Kind kind);
std::string_view name_of(Runtime runtime);
std::string_view name_of(Egress egress);
std::string_view name_of(PortKind kind);

struct Nodes {
  std::uint32_t min = 1;
  std::uint32_t max = 1;

  friend bool operator==(const Nodes&, const Nodes&) = default;
};

// What each worker gets.
struct Resources {
  double cpus = 1;
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;
  std::uint64_t disk_bytes = std::uint64_t{1} << 30;
  std::uint32_t gpus = 0;
  std::uint64_t gpu_memory_bytes = 0;

  friend bool operator==(const Resources&, const Resources&) = default;
};

// Where the worker's programs come from; at most one of the two is set.
struct Environment {
  std::string host;          // a named environment of the node; empty: the node's own PATH
  std::string requirements;  // a file of locked, hashed wheels

  friend bool operator==(const Environment&, const Environment&) = default;
};

struct Checkpoint {
  std::string path;  // relative to the worker's folder
  std::chrono::milliseconds every = std::chrono::seconds(60);
  std::uint32_t keep = 3;

  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

struct Restart {
  std::uint32_t max = 3;
  std::chrono::milliseconds backoff = std::chrono::seconds(5);

  friend bool operator==(const Restart&, const Restart&) = default;
};

struct Port {
  std::string name;
  std::uint16_t port = 0;  // 0: any
  PortKind kind = PortKind::Http;

  friend bool operator==(const Port&, const Port&) = default;
};

struct JobSpec {
  std::string name;  // [a-z][a-z0-9-]{0,39}
  Kind kind = Kind::Train;
  Runtime runtime = Runtime::Baremetal;
  std::string image;  // set exactly if runtime is Docker
  Nodes nodes;
  Resources resources;
  Environment environment;
  std::vector<std::string> files;    // relative paths without "..", no two the same
  std::vector<std::string> command;  // never empty
  std::map<std::string, std::string> env;
  Egress egress = Egress::None;
  std::optional<Checkpoint> checkpoint;
  Restart restart;
  std::chrono::milliseconds grace = std::chrono::seconds(20);  // between TERM and KILL
  std::vector<Port> ports;

  friend bool operator==(const JobSpec&, const JobSpec&) = default;
};

inline constexpr std::size_t kJobBytesMax = 1 << 20;    // of the job file, and of a spec in JSON
inline constexpr std::size_t kFilesBytesMax = 3 << 20;  // of all files of a job
inline constexpr std::size_t kFilesMax = 256;

// Reads a job file. `file_name` stands in messages: "job.yaml:7: unknown key 'comand'; did you mean
// 'command'?". Fails with Invalid at the first error: what is wrong, where, and what to write instead. Every
// file that the job names must be a regular file inside `folder`.
Result<JobSpec> parse_job(std::string_view text, const std::filesystem::path& folder,
                          std::string_view file_name = "job.yaml");

// Reads a job file from the disk; its folder is that of the job's files. A file larger than kJobBytesMax is
// refused unread.
Result<JobSpec> load_job(const std::filesystem::path& file);

// The spec as other nodes get it: every key, defaults written out.
nlohmann::json to_json(const JobSpec& spec);

// Fails with Invalid on what parse_job() refuses, but for whether files exist.
Result<JobSpec> from_json(const nlohmann::json& json);
Result<JobSpec> from_json_text(std::string_view text);

struct File {
  std::string path;  // as in JobSpec::files
  Bytes content;
  bool executable = false;

  friend bool operator==(const File&, const File&) = default;
};

// Reads the job's files, the file of environment.requirements included. Fails with Invalid if one is missing,
// leads out of `folder`, or if they have more than kFilesBytesMax bytes together.
Result<std::vector<File>> load_files(const JobSpec& spec, const std::filesystem::path& folder);

}  // namespace hivemetal::job
