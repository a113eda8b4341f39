// The walk of a job through a swarm, with the faults that a swarm has.
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "sim/seed.h"
#include "sim_swarm.h"

namespace hivemetal::scheduler {
namespace {

// Every attempt works this long and then exits with 0.
void work_for(SimSwarm& swarm, Clock::Duration duration) {
  for (auto& node : swarm.nodes()) {
    node->runner().script([duration](const runner::AttemptSpec&) {
      return runner::FakeRunner::Script{.start_takes = 5ms, .ends_after = duration};
    });
  }
}

std::string submit(SimSwarm& swarm, const job::JobSpec& job) {
  return swarm.coordinator().submit(job, {}).value();
}

bool all_run(SimSwarm& swarm, const std::string& run) {
  const auto view = swarm.coordinator().run(run);
  return std::all_of(view->workers.begin(), view->workers.end(),
                     [](const auto& w) { return w.state == "running"; });
}

std::vector<WorkerView> workers(SimSwarm& swarm, const std::string& run) {
  return swarm.coordinator().run(run)->workers;
}

std::string state(SimSwarm& swarm, const std::string& run) { return swarm.coordinator().run(run)->state; }

TEST(Swarm, RunsAJobToItsEndWithOneWorkerPerNode) {
  SimSwarm swarm(4);
  work_for(swarm, 60s);
  const auto begin = swarm.clock.now();
  const auto run = submit(swarm, sim_job(2, 4));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s)) << swarm.story(run);
  RecordProperty("all_running_ms", static_cast<int>((swarm.clock.now() - begin) / 1ms));
  for (auto& node : swarm.nodes()) EXPECT_EQ(node->alive().size(), 1U);
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "finished"; }, 62s)) << swarm.story(run);
  for (auto& node : swarm.nodes()) EXPECT_EQ(node->runner().started().size(), 1U);
  swarm.run_for(5s);
  for (auto& node : swarm.nodes())
    EXPECT_EQ(node->host().free().milli_cpus, 2000U) << "all capacity is free again";
}

TEST(Swarm, TellsEachWorkerWhoItIs) {
  SimSwarm swarm(2);
  auto job = sim_job(2, 2);
  job.env = {{"BATCH", "64"}};
  const auto run = submit(swarm, job);
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  std::set<std::string> indexes;
  for (auto& node : swarm.nodes()) {
    const auto& environment = node->runner().started().at(0).environment;
    indexes.insert(environment.at("HIVEMETAL_WORKER_INDEX"));
    EXPECT_EQ(environment.at("HIVEMETAL_RUN_ID"), run);
    EXPECT_EQ(environment.at("HIVEMETAL_WORKERS"), "2");
    EXPECT_EQ(environment.at("BATCH"), "64");
  }
  EXPECT_EQ(indexes, (std::set<std::string>{"0", "1"}));
}

TEST(Swarm, ReplacesTheWorkersOfADeadNodeWithinTwoSeconds) {
  Clock::Duration slowest{};
  for (std::uint64_t seed = sim::test_seed(1); seed < sim::test_seed(1) + 50; ++seed) {
    SCOPED_TRACE(sim::repeat_with(seed));
    SimSwarm swarm(4, seed);
    const auto run = submit(swarm, sim_job(3, 3));
    ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
    swarm.run_for(std::chrono::milliseconds(Random(seed)() % 1000));
    // Any node that has a worker, but for the coordinator's.
    SimNode* victim = nullptr;
    for (const auto& worker : workers(swarm, run)) {
      if (worker.node != swarm.node(0).id().base58()) victim = &swarm.node(worker.node);
    }
    ASSERT_NE(victim, nullptr);
    const auto before = swarm.last_event(run);
    const auto killed = swarm.clock.now();
    seed % 2 == 0 ? swarm.net.kill(victim->id()) : swarm.net.unplug(victim->id());
    ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "replaced", before).has_value(); }, 5s))
        << swarm.story(run);
    slowest = std::max(slowest, swarm.clock.now() - killed);
    EXPECT_EQ(state(swarm, run), "running");
    EXPECT_TRUE(all_run(swarm, run));
  }
  RecordProperty("slowest_ms", static_cast<int>(slowest / 1ms));
  EXPECT_LE(slowest, 2s) << slowest / 1ms << " ms";
}

TEST(Swarm, RestartsAKilledWorkerWithinASecondAndWhereItsCheckpointsAre) {
  SimSwarm swarm(4);
  const auto run = submit(swarm, sim_job(4, 4));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.run_for(1230ms);
  const auto victim = swarm.coordinator().run(run)->workers.at(2);
  const auto killed = swarm.clock.now();
  swarm.node(victim.node).runner().end(victim.attempt, {.reason = "SIGNAL", .signal = 9});
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "ended").has_value(); }, 1s));
  RecordProperty("noticed_ms", static_cast<int>((swarm.clock.now() - killed) / 1ms));
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "replaced").has_value(); }, 2s))
      << swarm.story(run);
  RecordProperty("replaced_ms", static_cast<int>((swarm.clock.now() - killed) / 1ms));
  EXPECT_LE(swarm.clock.now() - killed, 1s);
  const auto again = swarm.coordinator().run(run)->workers.at(2);
  EXPECT_EQ(again.node, victim.node);
  EXPECT_EQ(again.attempt, run + ".2.2");
  EXPECT_EQ(again.restarts, 1U);
}

TEST(Swarm, GivesUpAWorkerThatFailsTooOftenAndThenTheRun) {
  SimSwarm swarm(2);
  for (auto& node : swarm.nodes()) {
    node->runner().script([](const runner::AttemptSpec& spec) {
      const bool bad = spec.environment.at("HIVEMETAL_WORKER_INDEX") == "1";
      return runner::FakeRunner::Script{.ends_after = bad ? 1s : 1h,
                                        .exit = {.reason = "EXIT", .code = bad ? 3 : 0}};
    });
  }
  auto job = sim_job(2, 2);
  job.restart = {.max = 2, .backoff = 1s};
  const auto run = submit(swarm, job);
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "failed"; }, 60s)) << swarm.story(run);
  EXPECT_EQ(swarm.coordinator().run(run)->reason,
            "only 1 of at least 2 workers can still finish; the last failure: exit code 3");
  EXPECT_EQ(swarm.living(run, 0), 0U) << "the good worker is stopped";
}

TEST(Swarm, SaysWhyAJobThatCannotBeLaunchedFails) {
  SimSwarm swarm(1);
  swarm.node(0).runner().script([](const runner::AttemptSpec&) {
    return runner::FakeRunner::Script{.start_fails = Error{ErrorCode::Refused, "exec work: no such file"}};
  });
  auto job = sim_job(1, 1);
  job.restart = {.max = 1, .backoff = 100ms};
  const auto run = submit(swarm, job);
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "failed"; }, 20s)) << swarm.story(run);
  EXPECT_NE(swarm.coordinator().run(run)->reason.find("exec work: no such file"), std::string::npos);
}

TEST(Swarm, WaitsForEnoughNodesAndGrowsWhenTheyCome) {
  SimSwarm swarm(4, 1, {1000, std::uint64_t{1} << 30});
  for (std::size_t i = 1; i < 4; ++i) swarm.node(i).stop_daemon();
  const auto run = submit(swarm, sim_job(2, 3));
  swarm.run_for(5s);
  EXPECT_EQ(state(swarm, run), "waiting");
  EXPECT_EQ(swarm.node(0).alive().size(), 0U) << "no worker waits for company at somebody's cost";
  swarm.node(1).start_daemon();
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "running"; }, 5s)) << swarm.story(run);
  swarm.node(2).start_daemon();
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 5s)) << swarm.story(run);
}

TEST(Swarm, PutsASecondWorkerOnANodeOnlyWhenNoOtherFits) {
  SimSwarm swarm(2);
  const auto run = submit(swarm, sim_job(3, 3));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 3s)) << swarm.story(run);
  EXPECT_EQ(swarm.node(0).alive().size() + swarm.node(1).alive().size(), 3U);
  EXPECT_GE(swarm.node(0).alive().size(), 1U);
  EXPECT_GE(swarm.node(1).alive().size(), 1U);
}

TEST(Swarm, GoesOnWhenTheCoordinatorsDaemonComesBack) {
  SimSwarm swarm(4);
  work_for(swarm, 60s);
  const auto run = submit(swarm, sim_job(4, 4));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.run_for(5s);
  const auto epoch = swarm.coordinator().run(run)->epoch;
  swarm.node(0).stop_daemon();
  swarm.run_for(6s);
  for (std::uint32_t worker = 0; worker < 4; ++worker) EXPECT_EQ(swarm.living(run, worker), 1U);
  swarm.node(0).start_daemon();
  swarm.run_for(5s);
  EXPECT_TRUE(all_run(swarm, run)) << swarm.story(run);
  EXPECT_GT(swarm.coordinator().run(run)->epoch, epoch);
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "finished"; }, 60s)) << swarm.story(run);
  std::size_t starts = 0;
  for (auto& node : swarm.nodes()) starts += node->runner().started().size();
  EXPECT_EQ(starts, 4U) << "nobody was started again";
  EXPECT_FALSE(swarm.event(run, "lost"));
}

TEST(Swarm, KnowsHowAWorkerEndedWhileTheCoordinatorWasAway) {
  SimSwarm swarm(3);
  work_for(swarm, 10s);
  const auto run = submit(swarm, sim_job(3, 3));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.node(0).stop_daemon();
  swarm.run_for(15s);
  swarm.node(0).start_daemon();
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "finished"; }, 10s)) << swarm.story(run);
}

TEST(Swarm, KeepsAWorkerWhoseNodesDaemonIsRestarted) {
  SimSwarm swarm(3);
  work_for(swarm, 60s);
  const auto run = submit(swarm, sim_job(3, 3));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.run_for(2s);
  swarm.node(2).stop_daemon();
  swarm.run_for(700ms);
  swarm.node(2).start_daemon();
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "finished"; }, 70s)) << swarm.story(run);
  EXPECT_EQ(swarm.node(2).runner().started().size(), 1U);
}

// The slot cannot be refilled elsewhere, so the worker of the silent node is taken back.
TEST(Swarm, TakesASilentNodeBackIfItsSlotIsStillEmpty) {
  SimSwarm swarm(2, 1, {1000, std::uint64_t{1} << 30});
  const auto run = submit(swarm, sim_job(2, 2));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.net.unplug(swarm.node(1).id());
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "lost").has_value(); }, 3s));
  swarm.run_for(3s);
  swarm.net.revive(swarm.node(1).id());
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "resumed").has_value(); }, 3s))
      << swarm.story(run);
  swarm.run_for(30s);
  EXPECT_TRUE(all_run(swarm, run)) << swarm.story(run);
  EXPECT_EQ(swarm.node(1).runner().started().size(), 1U);
}

// After the partition heals the fenced worker is told to stop; if it does not heal, its lease ends it.
TEST(Swarm, NeverHasTwoWorkersInOneSlotForLongerThanALease) {
  for (std::uint64_t seed = sim::test_seed(1); seed < sim::test_seed(1) + 12; ++seed) {
    SCOPED_TRACE(sim::repeat_with(seed));
    SimSwarm swarm(5, seed);
    swarm.net.set_link({.latency_min = 1ms, .latency_max = 40ms, .loss = 0.02});
    const auto run = submit(swarm, sim_job(2, 3));
    ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 10s)) << swarm.story(run);
    Random random(seed);
    std::map<std::uint32_t, Clock::Duration> together;  // how long more than one worker of a slot lived
    for (int round = 0; round < 6; ++round) {
      const PeerId victim = swarm.node(1 + random() % 4).id();
      if (random() % 2 == 0) {
        swarm.net.unplug(victim);
      } else {
        swarm.net.partition({{victim}});
      }
      const auto heals = swarm.clock.now() + std::chrono::milliseconds(random() % 30'000);
      while (swarm.clock.now() < heals + 10s) {
        if (swarm.clock.now() >= heals) {
          swarm.net.revive(victim);
          swarm.net.heal();
        }
        swarm.run_for(100ms);
        for (std::uint32_t worker = 0; worker < 3; ++worker) {
          auto& since = together[worker];
          since = swarm.living(run, worker) > 1 ? since + 100ms : 0ms;
          // The lease, plus the granularity of its check, plus what is on the way.
          ASSERT_LE(since, swarm.options.lease_ttl + 1500ms) << "worker " << worker << "\n"
                                                             << swarm.story(run);
        }
      }
    }
    ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 30s)) << swarm.story(run);
    for (std::uint32_t worker = 0; worker < 3; ++worker)
      EXPECT_EQ(swarm.living(run, worker), 1U) << swarm.story(run);
  }
}

TEST(Swarm, StopsEveryWorkerWhenTheRunIsStopped) {
  SimSwarm swarm(4);
  const auto run = submit(swarm, sim_job(4, 4));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  ASSERT_TRUE(swarm.coordinator().stop_run(run));
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "stopped"; }, 2s)) << swarm.story(run);
  for (std::uint32_t worker = 0; worker < 4; ++worker) EXPECT_EQ(swarm.living(run, worker), 0U);
  EXPECT_EQ(swarm.coordinator().stop_run("nobody-1234").error().code, ErrorCode::NotFound);
}

TEST(Swarm, StopsARunThatIsStillBeingPlaced) {
  for (int ms = 0; ms < 60; ms += 3) {
    SimSwarm swarm(4);
    work_for(swarm, 1h);
    const auto run = submit(swarm, sim_job(4, 4));
    swarm.run_for(std::chrono::milliseconds(ms));
    ASSERT_TRUE(swarm.coordinator().stop_run(run));
    ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "stopped"; }, 10s)) << swarm.story(run);
    swarm.run_for(1s);
    for (std::uint32_t worker = 0; worker < 4; ++worker)
      EXPECT_EQ(swarm.living(run, worker), 0U) << ms << " ms";
  }
}

TEST(Swarm, WaitsLongerWhenAllOthersFallSilentAtOnce) {
  SimSwarm swarm(4);
  const auto run = submit(swarm, sim_job(4, 4));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  swarm.run_for(1s);
  swarm.net.unplug(swarm.node(0).id());
  swarm.run_for(3s);
  swarm.net.revive(swarm.node(0).id());
  swarm.run_for(5s);
  EXPECT_FALSE(swarm.event(run, "lost")) << swarm.story(run);
  EXPECT_TRUE(all_run(swarm, run));
}

TEST(Swarm, MovesTheWorkersOfANodeThatLeaves) {
  SimSwarm swarm(3);
  const auto run = submit(swarm, sim_job(2, 2));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  SimNode* leaver = nullptr;
  for (const auto& worker : workers(swarm, run)) {
    if (worker.node != swarm.node(0).id().base58()) leaver = &swarm.node(worker.node);
  }
  swarm.clock.run(leaver->host().drain());
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "replaced").has_value(); }, 2s))
      << swarm.story(run);
  EXPECT_TRUE(leaver->alive().empty());
  for (const auto& worker : workers(swarm, run)) EXPECT_EQ(worker.restarts, 0U);
}

TEST(Swarm, BringsWhatWorkersSayToTheCoordinatorOnceEach) {
  SimSwarm swarm(2);
  swarm.net.set_link({.latency_min = 1ms, .latency_max = 60ms, .loss = 0.1});
  const auto run = submit(swarm, sim_job(2, 2));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 10s)) << swarm.story(run);
  std::vector<int> heard;
  const auto subscription = swarm.coordinator().subscribe(run, [&heard](const Event& event) {
    if (event.kind == "metrics") heard.push_back(event.data.at("epoch").get<int>());
  });
  for (int epoch = 0; epoch < 100; ++epoch) {
    for (const auto& worker : workers(swarm, run)) {
      if (worker.worker == 1 && !worker.node.empty()) {
        (void)swarm.node(worker.node)
            .host()
            .worker_event(worker.attempt, {{"event", "metrics"}, {"epoch", epoch}});
      }
    }
    swarm.run_for(37ms);
  }
  swarm.run_for(2s);
  ASSERT_EQ(heard.size(), 100U) << swarm.story(run);
  for (int epoch = 0; epoch < 100; ++epoch) EXPECT_EQ(heard[epoch], epoch);
  EXPECT_EQ(swarm.coordinator().run(run)->workers.at(1).metrics.at("epoch"), 99);
}

TEST(Swarm, ReadsALogAcrossTheRestartsOfAWorker) {
  SimSwarm swarm(3);
  const auto run = submit(swarm, sim_job(1, 1));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  auto worker = swarm.coordinator().run(run)->workers.at(0);
  swarm.node(worker.node).runner().print(worker.attempt, 1, "first\n");
  swarm.run_for(1s);
  swarm.node(worker.node).runner().end(worker.attempt, {.reason = "SIGNAL", .signal = 9});
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "replaced").has_value(); }, 2s));
  worker = swarm.coordinator().run(run)->workers.at(0);
  swarm.node(worker.node).runner().print(worker.attempt, 1, "second\n");
  swarm.node(worker.node).runner().end(worker.attempt, {.reason = "EXIT", .code = 0});
  ASSERT_TRUE(swarm.run_until([&] { return state(swarm, run) == "finished"; }, 2s));
  std::string text;
  LogCursor cursor;
  for (bool ended = false; !ended;) {
    const auto page = swarm.clock.run(swarm.coordinator().read_log(run, 0, cursor, 1024, 1s)).value();
    for (const auto& frame : page.frames) text += frame.frame.bytes;
    cursor = page.next;
    ended = page.ended;
  }
  EXPECT_EQ(text, "first\nsecond\n");
}

TEST(Swarm, NotesAPartOfALogThatIsOutOfReach) {
  SimSwarm swarm(3);
  const auto run = submit(swarm, sim_job(2, 2));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 2s));
  WorkerView lost;
  for (const auto& worker : workers(swarm, run)) {
    if (worker.node != swarm.node(0).id().base58()) lost = worker;
  }
  swarm.net.unplug(swarm.node(lost.node).id());
  ASSERT_TRUE(swarm.run_until([&] { return swarm.event(run, "replaced").has_value(); }, 3s));
  const auto page = swarm.clock.run(swarm.coordinator().read_log(run, lost.worker, {}, 1024, 0ms)).value();
  ASSERT_EQ(page.frames.size(), 1U);
  EXPECT_EQ(page.frames[0].frame.stream, 3);
  EXPECT_EQ(page.next.attempt, 1U);
}

TEST(Swarm, SendsNoJobToANodeThatIsNotOfTheSwarm) {
  SimSwarm swarm(3);
  for (auto& node : swarm.nodes()) node->stop_daemon();
  const PeerId stranger = swarm.node(2).id();
  swarm.options.authorize = [stranger](const PeerId& node, std::string_view) -> Result<void> {
    if (node == stranger) return Error{ErrorCode::Refused, "no proof"};
    return {};
  };
  for (auto& node : swarm.nodes()) node->start_daemon();
  const auto run = submit(swarm, sim_job(3, 3));
  ASSERT_TRUE(swarm.run_until([&] { return all_run(swarm, run); }, 5s)) << swarm.story(run);
  EXPECT_TRUE(swarm.node(2).alive().empty());
  EXPECT_EQ(swarm.event(run, "offers")->data.at("refusals").at(0), "n3: it is not of our swarm: no proof");
}

// Several runs compete under loss, delays and deaths: no node ever runs more than it has, and no attempt
// starts twice.
TEST(SwarmProperty, NeverRunsMoreOnANodeThanItHas) {
  std::size_t attempts = 0;
  for (std::uint64_t seed = sim::test_seed(1); seed < sim::test_seed(1) + 200; ++seed) {
    SCOPED_TRACE(sim::repeat_with(seed));
    Random random(seed);
    SimSwarm swarm(3, seed, {2000, std::uint64_t{1} << 30});
    swarm.net.set_link({.latency_min = 1ms, .latency_max = 300ms, .loss = 0.1});
    for (auto& node : swarm.nodes()) {
      node->runner().script([&random](const runner::AttemptSpec&) {
        return runner::FakeRunner::Script{
            .start_takes = std::chrono::milliseconds(random() % 300),
            .ends_after = std::chrono::milliseconds(500 + random() % 8000),
            .exit = {.reason = "EXIT", .code = static_cast<int>(random() % 3 == 0)},
            .stop_takes = std::chrono::milliseconds(random() % 2000)};
      });
    }
    std::vector<std::pair<std::size_t, std::string>> runs;
    for (int step = 0; step < 60; ++step) {
      const std::size_t at = random() % 3;
      switch (random() % 12) {
        case 0: {
          const auto max = static_cast<std::uint32_t>(1 + random() % 4);
          if (runs.size() < 6)
            runs.emplace_back(at, swarm.node(at).coordinator().submit(sim_job(1, max), {}).value());
          break;
        }
        case 1:
          swarm.net.unplug(swarm.node(at).id());
          break;
        case 2:
          swarm.net.revive(swarm.node(at).id());
          break;
        case 3:
          if (!runs.empty()) {
            const auto& [node, run] = runs[random() % runs.size()];
            (void)swarm.node(node).coordinator().stop_run(run);
          }
          break;
        default:
          break;
      }
      swarm.run_for(std::chrono::milliseconds(100 + random() % 900));
      for (auto& node : swarm.nodes()) {
        ASSERT_LE(node->alive().size() * 1000, node->host().capacity().milli_cpus);
        std::set<std::string> ids;
        for (const auto& spec : node->runner().started()) ASSERT_TRUE(ids.insert(spec.id).second) << spec.id;
      }
    }
    for (auto& node : swarm.nodes()) attempts += node->runner().started().size();
  }
  RecordProperty("attempts", static_cast<int>(attempts));
  if (attempts < 1000) ADD_FAILURE() << "only " << attempts << " attempts: the test shows nothing";
}

}  // namespace
}  // namespace hivemetal::scheduler
