// What p2pd prints: `Peer ID: …` once it is ready, lines of JSON with a level, plain lines when it gives up.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hivemetal::p2p {

struct DaemonLine {
  enum class Kind { Ready, Plain, Error };

  Kind kind = Kind::Plain;
  std::string text;  // what to log: no control characters, cut at 500 bytes
};

DaemonLine parse_daemon_line(std::string_view line);

// Cuts output, fed as it arrives, into lines. A line beyond 8 KiB is cut, and the rest of it dropped.
class LineReader {
 public:
  // Returns the lines that `bytes` completes, without their ends.
  std::vector<std::string> feed(std::string_view bytes);

 private:
  static constexpr std::size_t kLineMax = 8192;
  std::string line_;
};

}  // namespace hivemetal::p2p
