// A log segment that something else has written to.
#include <cstdlib>

#include "runner/attempt/log_frames.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hivemetal::runner;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const DecodedFrames decoded = decode_frames(bytes, 0);
  std::uint64_t offset = 0;
  for (const auto& frame : decoded.frames) {
    if (frame.offset != offset) std::abort();
    offset += kFrameHeaderSize + frame.bytes.size();
  }
  if (offset != decoded.next_offset || offset > size) std::abort();
  static_cast<void>(offset_of_segment(bytes));
  return 0;
}
