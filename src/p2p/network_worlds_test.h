// Two networks that can reach each other, simulated or real: what the contract's tests run on.
#pragma once

#include <array>
#include <exception>
#include <gtest/gtest.h>
#include <memory>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "p2p/daemon_network.h"
#include "sim/seed.h"
#include "sim/sim_clock.h"
#include "sim/sim_network.h"

namespace hivemetal::p2p {

class SimWorld {
 public:
  Network& network(std::size_t index) { return *networks_[index]; }
  Clock& clock() { return clock_; }
  asio::any_io_executor executor() { return loop_.get_executor(); }
  PeerId stranger() const { return sim::sim_peer_id(99); }

  template <class T>
  T run(asio::awaitable<T> work) {
    return clock_.run(std::move(work));
  }

  ~SimWorld() {
    for (auto& network : networks_) clock_.run(network->stop());
  }

 private:
  asio::io_context loop_;
  sim::SimClock clock_{loop_};
  sim::SimNet net_{loop_, clock_, sim::test_seed()};
  std::array<std::unique_ptr<sim::SimNetwork>, 2> networks_{
      std::make_unique<sim::SimNetwork>(net_, sim::sim_peer_id(1)),
      std::make_unique<sim::SimNetwork>(net_, sim::sim_peer_id(2))};
};

// Two p2pd from the virtual environment, which scripts/setup makes.
class DaemonWorld {
 public:
  DaemonWorld() {
    for (auto& network : networks_) {
      network = std::make_unique<DaemonNetwork>(loop_.get_executor(), clock_, DaemonOptions());
      const auto started = run(network->start(clock_.now() + std::chrono::seconds(20)));
      if (!started) ADD_FAILURE() << started.error().message;
    }
  }

  ~DaemonWorld() {
    for (auto& network : networks_) run(network->stop());
  }

  Network& network(std::size_t index) { return *networks_[index]; }
  DaemonNetwork& daemon(std::size_t index) { return *networks_[index]; }
  SystemClock& clock() { return clock_; }
  asio::any_io_executor executor() { return loop_.get_executor(); }
  PeerId stranger() const { return sim::sim_peer_id(99); }

  template <class T>
  T run(asio::awaitable<T> work) {
    std::exception_ptr failure;
    bool done = false;
    if constexpr (std::is_void_v<T>) {
      asio::co_spawn(loop_, std::move(work), [&](std::exception_ptr exception) {
        failure = std::move(exception);
        done = true;
      });
      spin(done, failure);
    } else {
      std::optional<T> result;
      asio::co_spawn(loop_, std::move(work), [&](std::exception_ptr exception, T value) {
        failure = std::move(exception);
        done = true;
        if (!failure) result.emplace(std::move(value));
      });
      spin(done, failure);
      return std::move(*result);
    }
  }

 private:
  void spin(const bool& done, const std::exception_ptr& failure) {
    while (!done) {
      loop_.restart();
      loop_.run_one();
    }
    if (failure) std::rethrow_exception(failure);
  }

  asio::io_context loop_;
  SystemClock clock_;
  std::array<std::unique_ptr<DaemonNetwork>, 2> networks_;
};

}  // namespace hivemetal::p2p
