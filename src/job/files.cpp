#include "job/files.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/job.h"

namespace hivemetal::job {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPathMax = 512;

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

struct Content {
  Bytes bytes;
  bool executable;
};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }

 private:
  int number_;
};

Error failed(const fs::path& file, int error) {
  return invalid(fmt::format("cannot read {}: {}", file.string(), std::strerror(error)));  // NOLINT
}

// Reads a regular file whose size, `too_large` says so otherwise, is at most `size_max`.
template <class TooLarge>
Result<Content> read_file(const fs::path& file, std::uint64_t size_max, TooLarge too_large) {
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (opened.number() < 0) return failed(file, errno);
  struct stat status{};
  if (::fstat(opened.number(), &status) != 0) return failed(file, errno);
  if (!S_ISREG(status.st_mode)) return invalid(fmt::format("{} is not a regular file", file.string()));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > size_max) return too_large(size);

  Content content{Bytes(size, '\0'), (status.st_mode & S_IXUSR) != 0};
  std::size_t read_bytes = 0;
  while (read_bytes < content.bytes.size()) {
    const ssize_t count =
        ::read(opened.number(), content.bytes.data() + read_bytes, content.bytes.size() - read_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(file, errno);
    if (count == 0) break;  // it has become shorter meanwhile
    read_bytes += static_cast<std::size_t>(count);
  }
  content.bytes.resize(read_bytes);
  return content;
}

}  // namespace

bool is_inside(std::string_view path) {
  if (path.empty() || path.size() > kPathMax) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return false;
  }
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const auto component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") return false;
    begin = end + 1;
  }
  return true;
}

Result<fs::path> find_file(const fs::path& folder, std::string_view path) {
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error)
    return invalid(fmt::format("the folder {} cannot be read: {}", folder.string(), error.message()));
  const fs::path file = fs::canonical(root / path, error);
  if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) {
    return invalid(
        fmt::format("no file '{}' in {}; paths are relative to the job file", path, root.string()));
  }
  if (error) return invalid(fmt::format("'{}' cannot be read: {}", path, error.message()));
  const auto [end, rest] = std::mismatch(root.begin(), root.end(), file.begin(), file.end());
  if (end != root.end()) {
    return invalid(fmt::format("'{}' leads out of the job's folder, to {}; copy it into the folder", path,
                               file.string()));
  }
  if (!fs::is_regular_file(file, error)) {
    return invalid(fmt::format("'{}' is not a regular file; list the files of a folder one by one", path));
  }
  return file;
}

Error too_large(std::string_view file_name, std::uint64_t bytes) {
  return invalid(
      fmt::format("{}: {} bytes are too many for a job file, at most {} are read; is this the right file?",
                  file_name, bytes, kJobBytesMax));
}

Result<Bytes> read_job_file(const fs::path& file) {
  auto content = read_file(file, kJobBytesMax,
                           [&](std::uint64_t size) { return too_large(file.filename().string(), size); });
  if (!content) return content.error();
  return std::move(content->bytes);
}

Result<std::vector<File>> load_files(const JobSpec& spec, const fs::path& folder) {
  std::vector<std::string> paths = spec.files;
  const std::string& requirements = spec.environment.requirements;
  if (!requirements.empty() && std::find(paths.begin(), paths.end(), requirements) == paths.end()) {
    paths.push_back(requirements);
  }
  std::vector<File> files;
  std::uint64_t total = 0;
  for (const std::string& path : paths) {
    if (!is_inside(path)) return invalid(fmt::format("'{}' is no path below the job's folder", path));
    const auto found = find_file(folder, path);
    if (!found) return found.error();
    auto content = read_file(*found, kFilesBytesMax - total, [&](std::uint64_t size) {
      return invalid(
          fmt::format("'{}' has {} bytes, with the files before it {}; the files of a job may have {} bytes "
                      "(3 MiB) together until "
                      "bundles come in a later version; keep large data on the nodes",
                      path, size, total + size, kFilesBytesMax));
    });
    if (!content) return content.error();
    total += content->bytes.size();
    files.push_back({path, std::move(content->bytes), content->executable});
  }
  return files;
}

}  // namespace hivemetal::job
