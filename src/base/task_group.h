// Background coroutines with an owner.
//
// A class that runs loops declares a TaskGroup as its last member and awaits close() in its own stop().
// Nothing outlives the group: close() cancels every task and returns when the last one has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include "base/asio.h"
#include "base/notification.h"

namespace hivemetal {

class TaskGroup {
 public:
  explicit TaskGroup(asio::any_io_executor executor);
  ~TaskGroup();  // the group must be closed, or its executor stopped for good

  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts `task`. An exception other than cancellation is a bug: it is logged under `name` and aborts.
  // A closed group drops the task unstarted. Returns a number for cancel().
  using TaskId = std::uint64_t;
  TaskId spawn(std::string name, asio::awaitable<void> task);

  // Cancels one task, and does not wait; does nothing if it has ended.
  void cancel(TaskId task);

  // Cancels all tasks and waits for them. Later calls return when the first has.
  asio::awaitable<void> close();

  std::size_t size() const { return signals_.size(); }
  const asio::any_io_executor& executor() const { return executor_; }

 private:
  asio::any_io_executor executor_;
  TaskId last_task_ = 0;
  std::map<TaskId, asio::cancellation_signal> signals_;  // one per running task
  bool closed_ = false;
  Notification ended_;
};

}  // namespace hivemetal
