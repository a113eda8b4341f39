#include "node/log_view.h"

#include <fmt/format.h>

#include "identity/base64.h"
#include "node/show/text.h"

namespace hivemetal::node {

namespace {

constexpr std::size_t kLineBytesMax = 64 * 1024;  // a longer one is shown in pieces
constexpr int kNote = 3;                          // the stream of remarks by the node

}  // namespace

std::string LogView::line(std::uint64_t worker, const std::string& text) const {
  const auto shown =
      show::escaped(text.ends_with('\r') ? text.substr(0, text.size() - 1) : text, /*lines=*/true);
  return prefixed_ ? fmt::format("[{}] {}\n", worker, shown) : shown + "\n";
}

std::string LogView::take(const nlohmann::json& frame) {
  const auto index = static_cast<std::uint64_t>(show::number_in(frame, "worker"));
  const auto attempt = static_cast<std::uint64_t>(show::number_in(frame, "attempt"));
  const auto offset = static_cast<std::uint64_t>(show::number_in(frame, "offset"));
  const auto stream = static_cast<int>(show::number_in(frame, "stream"));
  const auto known = workers_.find(index);
  const bool shown =
      known != workers_.end() && (attempt < known->second.attempt ||
                                  (attempt == known->second.attempt && offset <= known->second.last_offset));
  Worker& worker = workers_[index];
  std::string out;
  if (!shown) {
    const auto bytes = identity::base64_decode(frame.value("content", ""));
    const std::string content = bytes ? *bytes : "";
    if (json_) {
      auto object = frame;
      object.erase("content");
      object.erase("cursor");
      object["text"] = content;
      out = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    } else {
      const bool restarted = known != workers_.end() && attempt != worker.attempt;
      if ((restarted || stream == kNote) && !worker.line.empty())
        out += line(index, std::exchange(worker.line, ""));
      if (restarted)
        out += line(index,
                    fmt::format("-- attempt {} on {} --", attempt + 1, show::text_in(frame, "node_name")));
      if (stream == kNote) {
        out += line(index, "-- " + content + " --");
      } else {
        worker.line += content;
      }
      for (std::size_t end = 0;
           (end = worker.line.find('\n')) != std::string::npos || worker.line.size() > kLineBytesMax;) {
        const auto length = std::min(end, kLineBytesMax);
        out += line(index, worker.line.substr(0, length));
        worker.line.erase(0, length == end ? length + 1 : length);
      }
    }
    worker.attempt = attempt;
    worker.last_offset = offset;
  }
  if (const auto cursor = show::text_in(frame, "cursor"); !cursor.empty()) worker.cursor = cursor;
  return out;
}

std::string LogView::rest() {
  std::string out;
  for (auto& [index, worker] : workers_) {
    if (!worker.line.empty()) out += line(index, std::exchange(worker.line, ""));
  }
  return out;
}

std::string LogView::cursors() const {
  std::string out;
  for (const auto& [index, worker] : workers_) {
    if (!worker.cursor.empty()) out += (out.empty() ? "" : ",") + worker.cursor;
  }
  return out;
}

}  // namespace hivemetal::node
