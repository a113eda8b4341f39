#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace hivemetal::log {

void start(std::string_view level) {
  spdlog::set_default_logger(spdlog::get("hivemetal") ? spdlog::get("hivemetal")
                                                      : spdlog::stderr_color_mt("hivemetal"));
  spdlog::set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-5l%$ %v");
  spdlog::set_level(spdlog::level::from_str(std::string(level)));
}

bool Limited::first(const std::string& key) {
  ++count_;
  return keys_.size() < kKeysMax && keys_.insert(key).second;
}

}  // namespace hivemetal::log
