#include "p2p/daemon_output.h"

#include <algorithm>
#include <utility>

namespace hivemetal::p2p {

namespace {

constexpr std::size_t kTextMax = 500;

bool contains(std::string_view line, std::string_view part) {
  return line.find(part) != std::string_view::npos;
}

}  // namespace

DaemonLine parse_daemon_line(std::string_view line) {
  DaemonLine parsed;
  parsed.text = line.substr(0, kTextMax);
  std::replace_if(
      parsed.text.begin(), parsed.text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  if (line.starts_with("Peer ID: ")) {
    parsed.kind = DaemonLine::Kind::Ready;
  } else if (line.starts_with("{")) {
    for (const std::string_view level : {"error", "dpanic", "panic", "fatal"}) {
      if (contains(line, "\"level\":\"" + std::string(level) + "\"")) parsed.kind = DaemonLine::Kind::Error;
    }
  } else if (line.starts_with("panic:") || line.starts_with("fatal error:") || contains(line, "failed to ")) {
    parsed.kind = DaemonLine::Kind::Error;
  }
  return parsed;
}

std::vector<std::string> LineReader::feed(std::string_view bytes) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    line_ += part.substr(0, kLineMax - std::min(kLineMax, line_.size()));
    if (end == std::string_view::npos) break;
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    lines.push_back(std::exchange(line_, {}));
    bytes.remove_prefix(end + 1);
  }
  return lines;
}

}  // namespace hivemetal::p2p
