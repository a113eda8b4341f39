#include "base/task_group.h"

#include <exception>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel_error.hpp>
#include <boost/asio/multiple_exceptions.hpp>
#include <boost/system/system_error.hpp>

#include "base/check.h"
#include "base/log.h"

namespace hivemetal {

namespace {

// True if the exception only says that the coroutine was cancelled.
bool is_cancellation(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const boost::system::system_error& error) {
    return error.code() == asio::error::operation_aborted ||
           error.code() == asio::experimental::error::channel_cancelled;
  } catch (const asio::multiple_exceptions& several) {  // both sides of `a || b` were cancelled
    return is_cancellation(several.first_exception());
  } catch (...) {
    return false;
  }
}

std::string text_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "not a std::exception";
  }
}

}  // namespace

TaskGroup::TaskGroup(asio::any_io_executor executor) : executor_(executor), ended_(executor) {}

TaskGroup::~TaskGroup() = default;

TaskGroup::TaskId TaskGroup::spawn(std::string name, asio::awaitable<void> task) {
  const TaskId id = ++last_task_;
  if (closed_) return id;
  asio::cancellation_signal& signal = signals_[id];
  asio::co_spawn(executor_, std::move(task),
                 asio::bind_cancellation_slot(
                     signal.slot(), [this, id, name = std::move(name)](const std::exception_ptr& exception) {
                       signals_.erase(id);
                       ended_.notify_all();
                       if (exception && !is_cancellation(exception)) {
                         log::error("task {}: {}", name, text_of(exception));
                         HIVEMETAL_CHECK(!"a background task threw");
                       }
                     }));
  return id;
}

void TaskGroup::cancel(TaskId task) {
  const auto found = signals_.find(task);
  if (found != signals_.end()) found->second.emit(asio::cancellation_type::terminal);
}

asio::awaitable<void> TaskGroup::close() {
  closed_ = true;
  for (auto& [id, signal] : signals_) signal.emit(asio::cancellation_type::terminal);
  while (!signals_.empty()) co_await ended_.wait();
}

}  // namespace hivemetal
