// What a DaemonNetwork has done so far.
#pragma once

#include <cstdint>

namespace hivemetal::p2p {

struct NetworkStats {
  std::uint64_t calls = 0;            // unary calls sent
  std::uint64_t requests = 0;         // unary calls received
  std::uint64_t streams = 0;          // opened by us
  std::uint64_t streams_in = 0;       // opened by peers
  std::uint64_t streams_in_open = 0;  // now
  std::uint64_t bytes_in = 0;         // of payload, calls and streams
  std::uint64_t bytes_out = 0;
  std::uint64_t dropped_frames = 0;  // foreign bytes that were no message, or one message too many
  std::uint64_t health_checks = 0;   // that p2pd answered
  std::uint64_t restarts = 0;        // of p2pd
};

}  // namespace hivemetal::p2p
