#include "scheduler/run_state.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/seed.h"
#include "sim/sim_network.h"

namespace hivemetal::scheduler {
namespace {

using namespace std::chrono_literals;

const PeerId kSelf = sim::sim_peer_id(1);

// A run whose nodes say yes to everything; the test plays the network.
struct RunStateTest : testing::Test {
  Clock::TimePoint now{1h};
  RunState run = make(1, 1);

  static RunSpec spec(std::uint32_t min, std::uint32_t max) {
    return {.id = "run-1",
            .name = "run",
            .workers_min = min,
            .workers_max = max,
            .grant = {1000, 1 << 20},
            .backoff = 5s};
  }
  RunState make(std::uint32_t min, std::uint32_t max) const {
    return RunState(spec(min, max), {}, kSelf, now);
  }

  static Candidate candidate(std::uint32_t number) {
    return {.node = sim::sim_peer_id(number),
            .name = "n" + std::to_string(number),
            .offer = number,
            .slots = 1,
            .cpus_total = 2,
            .cpus_free = 2,
            .memory_total = 1 << 30,
            .memory_free = 1 << 30};
  }

  template <class Wanted>
  std::vector<Wanted> actions() {
    std::vector<Wanted> wanted;
    for (const Action& action : run.take_actions()) {
      if (const auto* one = std::get_if<Wanted>(&action)) wanted.push_back(*one);
    }
    return wanted;
  }

  // Offers of these nodes are taken, leased and started.
  void place(std::vector<std::uint32_t> nodes) {
    run.tick(now);
    (void)run.take_actions();
    std::vector<Candidate> candidates;
    for (const auto node : nodes) candidates.push_back(candidate(node));
    run.offers(now, candidates, nodes.size(), {});
    for (const TakeLease& take : actions<TakeLease>()) {
      run.lease_taken(now, take.worker, take.epoch, "");
      report(take.worker, LeaseState::Running);
    }
  }

  void report(std::uint32_t worker, LeaseState state, std::optional<WorkerExit> exit = {}) {
    const Slot& slot = run.slots().at(worker);
    run.renewed(now, slot.node,
                {{.worker = worker,
                  .epoch = slot.epoch,
                  .state = state,
                  .attempt = slot.attempts.back().id,
                  .pid = 7,
                  .exit = exit}});
  }

  std::vector<std::string> kinds() {
    std::vector<std::string> kinds;
    for (const Event& event : run.take_events()) kinds.push_back(event.kind);
    return kinds;
  }

  // How long after `now` the run asks for a place again.
  Clock::Duration asks_after(Clock::Duration limit) {
    (void)run.take_actions();
    for (Clock::Duration waited{}; waited <= limit; waited += 100ms) {
      run.tick(now + waited);
      if (!actions<AskOffers>().empty()) return waited;
    }
    return Clock::Duration::max();
  }
};

TEST_F(RunStateTest, TellsItsStoryInOrder) {
  place({2});
  EXPECT_EQ(kinds(), (std::vector<std::string>{"offers", "placed", "started"}));
  report(0, LeaseState::Ended, WorkerExit{.reason = "EXIT", .code = 0});
  EXPECT_EQ(kinds(), (std::vector<std::string>{"ended", "finished"}));
  EXPECT_EQ(run.phase(), RunPhase::Finished);
}

TEST_F(RunStateTest, BacksOffLongerWithEveryFailure) {
  for (const auto expected : {5s, 10s, 20s}) {
    place({2});
    report(0, LeaseState::Ended, WorkerExit{.reason = "EXIT", .code = 1});
    EXPECT_EQ(asks_after(60s), expected);
    now += expected;
    run.offers(now, {}, 0, {});
    now += 1s;
  }
  place({2});
  report(0, LeaseState::Ended, WorkerExit{.reason = "EXIT", .code = 1});
  EXPECT_EQ(run.phase(), RunPhase::Failed);
}

TEST_F(RunStateTest, RestartsAtOnceAfterTheFirstKillOnly) {
  place({2});
  report(0, LeaseState::Ended, WorkerExit{.reason = "SIGNAL", .signal = 9});
  EXPECT_EQ(asks_after(60s), 0s);
  run.offers(now, {}, 0, {});
  now += 1s;
  place({2});
  report(0, LeaseState::Ended, WorkerExit{.reason = "SIGNAL", .signal = 9});
  EXPECT_EQ(asks_after(60s), 10s);
}

TEST_F(RunStateTest, CountsNoRestartForTheLossOfANode) {
  for (int i = 0; i < 10; ++i) {
    place({2});
    now += 2s;
    run.tick(now);
    EXPECT_EQ(run.slots()[0].state, SlotState::Waiting);
    EXPECT_EQ(run.slots()[0].restarts, 0U);
    now += 61s;
  }
}

TEST_F(RunStateTest, LosesANodeAfterOneAndAHalfSecondsOfSilence) {
  place({2});
  run.tick(now + 1400ms);
  EXPECT_EQ(run.slots()[0].state, SlotState::Running);
  run.tick(now + 1500ms);
  EXPECT_EQ(run.slots()[0].state, SlotState::Waiting);
}

TEST_F(RunStateTest, LosesAWorkerAtOnceIfItsNodeDoesNotKnowIt) {
  place({2});
  const Slot slot = run.slots()[0];
  run.renewed(now, slot.node,
              {{.status = WorkerReport::Status::Unknown, .worker = 0, .epoch = slot.epoch - 1}});
  EXPECT_EQ(run.slots()[0].state, SlotState::Running) << "the answer to an older question";
  run.renewed(now, slot.node, {{.status = WorkerReport::Status::Unknown, .worker = 0, .epoch = slot.epoch}});
  EXPECT_EQ(run.slots()[0].state, SlotState::Waiting);
}

TEST_F(RunStateTest, DropsSlotsThatNeverRanWhenTheWorkComesToItsEnd) {
  run = make(1, 3);
  place({2});
  EXPECT_EQ(run.phase(), RunPhase::Running);
  report(0, LeaseState::Ended, WorkerExit{.reason = "EXIT", .code = 0});
  EXPECT_EQ(run.phase(), RunPhase::Finished);
  EXPECT_EQ(run.slots()[2].state, SlotState::Dropped);
}

TEST_F(RunStateTest, StartsNothingWithFewerThanTheLeastWorkers) {
  run = make(2, 4);
  run.tick(now);
  (void)run.take_actions();
  run.offers(now, {candidate(2)}, 2, {"n3: wanted 1000m cpus, free are 0m cpus"});
  EXPECT_EQ(run.take_actions().size(), 1U) << "the offer is declined";
  EXPECT_EQ(
      run.reason(),
      "1 of 2 workers can be placed now: 2 nodes asked, 1 offer; n3: wanted 1000m cpus, free are 0m cpus");
  EXPECT_EQ(kinds(), (std::vector<std::string>{"waiting"}));
  now += 2s;
  run.tick(now);
  run.offers(now, {candidate(2)}, 2, {"n3: wanted 1000m cpus, free are 0m cpus"});
  EXPECT_TRUE(kinds().empty()) << "said once";
}

TEST_F(RunStateTest, AsksAllLeasesForNewsAfterARestart) {
  run = make(2, 2);
  place({2, 3});
  const auto epoch = run.epoch();
  auto recovered = RunState::recover(spec(2, 2), {}, kSelf, nlohmann::json::parse(run.to_json().dump()), now);
  ASSERT_TRUE(recovered);
  run = std::move(*recovered);
  EXPECT_EQ(run.renewals().size(), 2U);
  EXPECT_EQ(run.epoch(), epoch + 2);
  run.tick(now + 2900ms);
  EXPECT_EQ(run.slots()[0].state, SlotState::Running);
  EXPECT_FALSE(RunState::recover(spec(2, 3), {}, kSelf, run.to_json(), now)) << "another number of workers";
  EXPECT_FALSE(RunState::recover(spec(2, 2), {}, kSelf, nlohmann::json::object(), now));
}

TEST_F(RunStateTest, RecordsWhatAWorkerSaysUnderItsOwnWordButNeverUnderOurs) {
  place({2});
  (void)kinds();
  const Slot& slot = run.slots()[0];
  WorkerReport said{
      .worker = 0, .epoch = slot.epoch, .attempt = slot.attempts.back().id, .pid = 7, .next_event = 4};
  said.events = {
      {{"event", "metrics"}, {"loss", 0.5}}, {{"event", "finished"}}, {{"event", "Bad Word\n"}}, "no object"};
  run.renewed(now, slot.node, {said});
  EXPECT_EQ(kinds(), (std::vector<std::string>{"metrics", "worker_finished", "note"}));
  EXPECT_EQ(slot.metrics.at("loss"), 0.5);
  run.renewed(now, slot.node, {said});
  EXPECT_TRUE(kinds().empty()) << "each once, however often it is sent";
}

// A liar among the nodes, and messages in any order: nothing breaks, and the books stay in order.
TEST(RunStateProperty, SurvivesWhateverNodesSay) {
  for (std::uint64_t seed = sim::test_seed(1); seed < sim::test_seed(1) + 100; ++seed) {
    SCOPED_TRACE(sim::repeat_with(seed));
    Random random(seed);
    const auto below = [&random](std::uint64_t n) { return static_cast<std::uint32_t>(random() % n); };
    const RunSpec spec = RunStateTest::spec(1 + below(2), 2 + below(3));
    Clock::TimePoint now{1h};
    RunState run(spec, {}, kSelf, now);
    std::vector<TakeLease> leases;
    bool asked = false;
    std::uint64_t epoch = 0;
    for (int step = 0; step < 300 && !is_over(run.phase()); ++step) {
      now += std::chrono::milliseconds(below(700));
      run.tick(now);
      for (const Action& action : run.take_actions()) {
        if (std::holds_alternative<AskOffers>(action)) asked = true;
        if (const auto* take = std::get_if<TakeLease>(&action)) leases.push_back(*take);
      }
      if (asked && below(2) == 0) {
        asked = false;
        std::vector<Candidate> candidates;
        for (std::uint32_t node = 1; node < 5; ++node) {
          if (below(3) > 0) candidates.push_back(RunStateTest::candidate(node));
        }
        run.offers(now, candidates, 4, {"some refusal"});
      }
      if (!leases.empty()) {
        const TakeLease take = leases[below(leases.size())];  // some answers come twice, some never
        if (below(4) > 0)
          run.lease_taken(now, take.worker, take.epoch, "");
        else
          run.lease_failed(now, take.worker, take.epoch, below(2) == 0, "why");
      }
      const Slot& slot = run.slots()[below(run.slots().size())];
      WorkerReport report{
          .status = static_cast<WorkerReport::Status>(below(3) * below(2)),
          .worker = below(6),
          .epoch = below(60),
          .state = static_cast<LeaseState>(below(4)),
          .attempt = slot.attempts.empty() ? "x" : slot.attempts[below(slot.attempts.size())].id,
          .pid = static_cast<int>(below(3)),
          .next_event = below(10)};
      report.events.resize(below(4), nlohmann::json{{"event", "metrics"}});
      if (below(2) == 0)
        report.exit = WorkerExit{.reason = below(2) == 0 ? "EXIT" : "LEASE_EXPIRED", .code = below(2)};
      run.renewed(now, below(2) == 0 ? slot.node : sim::sim_peer_id(1 + below(4)), {report});
      if (below(200) == 0) run.stop(now, "as asked");
      if (below(30) == 0) {
        run = RunState::recover(spec, {}, kSelf, nlohmann::json::parse(run.to_json().dump()), now).value();
        asked = false;
        leases.clear();
      }
      ASSERT_GE(run.epoch(), epoch) << "epochs never fall";
      epoch = run.epoch();
      for (const Slot& one : run.slots()) {
        if (lives(one.state) || one.state == SlotState::Placing) {
          ASSERT_FALSE(one.node.empty());
          ASSERT_FALSE(one.attempts.empty());
        }
        ASSERT_LE(one.restarts, spec.restarts_max);
      }
    }
  }
}

}  // namespace
}  // namespace hivemetal::scheduler
