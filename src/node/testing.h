// What this folder's tests share. No production file includes it.
#pragma once

#include <filesystem>
#include <optional>
#include <ostream>
#include <stdlib.h>
#include <string>
#include <system_error>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "base/asio.h"
#include "base/result.h"

namespace hivemetal::node {

// A folder that is gone with the object. Short, because sockets are made below it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/hm-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Runs the loop until the coroutine has ended, and returns what it returned.
template <class T>
T run_until(asio::io_context& loop, asio::awaitable<T> work) {
  std::optional<T> result;
  std::exception_ptr failed;
  asio::co_spawn(loop, std::move(work), [&](const std::exception_ptr& exception, T value) {
    failed = exception;
    result = std::move(value);
    loop.stop();
  });
  loop.restart();
  loop.run();
  if (failed) std::rethrow_exception(failed);
  return std::move(*result);
}

inline void run_until(asio::io_context& loop, asio::awaitable<void> work) {
  std::exception_ptr failed;
  asio::co_spawn(loop, std::move(work), [&](const std::exception_ptr& exception) {
    failed = exception;
    loop.stop();
  });
  loop.restart();
  loop.run();
  if (failed) std::rethrow_exception(failed);
}

}  // namespace hivemetal::node

namespace hivemetal {

// How GoogleTest shows an error.
inline void PrintTo(const Error& error, std::ostream* out) {
  *out << name_of(error.code) << ": " << error.message;
}

}  // namespace hivemetal
