#include "scheduler/host.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "job/job.h"
#include "runner/fake/fake_runner.h"
#include "sim/sim_clock.h"
#include "sim/sim_network.h"

namespace hivemetal::scheduler {
namespace {

using namespace std::chrono_literals;

struct WorkerHostTest : testing::Test {
  asio::io_context loop;
  sim::SimClock clock{loop};
  sim::SimNet net{loop, clock, 1};
  sim::SimNetwork network{net, sim::sim_peer_id(1)};
  runner::FakeRunner runner{loop.get_executor(), clock};
  MemoryRunStore store;
  const PeerId ann = sim::sim_peer_id(2);
  const PeerId bob = sim::sim_peer_id(3);
  bool member = true;
  std::unique_ptr<WorkerHost> host;

  void SetUp() override { start(); }
  void TearDown() override {
    stop();
    clock.run(runner.close());
  }

  void start() {
    HostOptions options{.node_name = "attic", .capacity = {2000, std::uint64_t{2} << 30}};
    options.environments["torch"] = "/opt/torch";
    options.authorize = [this](const PeerId&, std::string_view) -> Result<void> {
      if (!member) return Error{ErrorCode::Refused, "not a member of this swarm"};
      return {};
    };
    options.initial_peers = [] {
      return std::vector<std::string>{"/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/2"};
    };
    host =
        std::make_unique<WorkerHost>(loop.get_executor(), clock, network, runner, store, std::move(options));
    ASSERT_TRUE(clock.run(host->start()));
  }
  void stop() { clock.run(host->stop()); }

  template <class Reply, class Request>
  Result<Reply> ask(const char* handle, const Request& request, const PeerId& from) {
    const auto reply = clock.run(host->handle(handle, from, request.SerializeAsString()));
    if (!reply) return reply.error();
    return parse<Reply>(*reply);
  }

  static proto::OfferRequest offer_request() {
    proto::OfferRequest request;
    request.set_run("fashion-1");
    request.set_milli_cpus(1000);
    request.set_memory(512 << 20);
    request.set_slots(4);
    request.set_runtime("baremetal");
    return request;
  }

  proto::LeaseRequest lease_request(std::uint64_t offer, std::uint32_t worker, std::uint64_t epoch) {
    job::JobSpec job;
    job.name = "fashion";
    job.nodes = {1, 4};
    job.resources.memory_bytes = 512 << 20;
    job.environment.host = "torch";
    job.command = {"python", "train.py"};
    job.files = {"train.py"};
    proto::LeaseRequest request;
    request.set_offer(offer);
    request.set_run("fashion-1");
    request.set_worker(worker);
    request.set_workers(4);
    request.set_epoch(epoch);
    request.set_attempt(1);
    request.set_ttl_ms(10'000);
    request.set_job(job::to_json(job).dump());
    auto& file = *request.add_files();
    file.set_path("train.py");
    file.set_content("print()");
    return request;
  }

  // A worker of ann's that runs, under epoch 1.
  void run_worker() {
    const auto offer = ask<proto::Offer>(kOfferHandle, offer_request(), ann).value();
    ASSERT_TRUE(ask<proto::LeaseReply>(kLeaseHandle, lease_request(offer.offer(), 0, 1), ann));
    clock.run_for(10ms);
  }

  proto::RenewReply::Worker renew(const PeerId& from, std::uint64_t epoch, std::uint32_t known = 1,
                                  std::uint32_t wait_ms = 0) {
    proto::RenewRequest request;
    request.set_run("fashion-1");
    request.set_wait_ms(wait_ms);
    auto& lease = *request.add_leases();
    lease.set_worker(0);
    lease.set_epoch(epoch);
    lease.set_known_state(known);
    return ask<proto::RenewReply>(kRenewHandle, request, from).value().workers(0);
  }

  Result<proto::StopReply> stop_worker(const PeerId& from, std::uint64_t epoch) {
    proto::StopRequest request;
    request.mutable_worker()->set_run("fashion-1");
    request.mutable_worker()->set_worker(0);
    request.mutable_worker()->set_epoch(epoch);
    return ask<proto::StopReply>(kStopHandle, request, from);
  }
};

TEST_F(WorkerHostTest, OffersWhatItHas) {
  const auto offer = ask<proto::Offer>(kOfferHandle, offer_request(), ann).value();
  EXPECT_EQ(offer.slots(), 2U);
  EXPECT_EQ(offer.name(), "attic");
  EXPECT_EQ(offer.milli_cpus_free(), 2000U);
  EXPECT_EQ(offer.memory_free(), std::uint64_t{2} << 30);
}

TEST_F(WorkerHostTest, RefusesStrangersAndWhatItCannotRun) {
  member = false;
  EXPECT_EQ(ask<proto::Offer>(kOfferHandle, offer_request(), ann).error().message,
            "not a member of this swarm");
  EXPECT_FALSE(ask<proto::LeaseReply>(kLeaseHandle, lease_request(1, 0, 1), ann));
  member = true;
  auto request = offer_request();
  request.set_environment("jax");
  EXPECT_EQ(ask<proto::Offer>(kOfferHandle, request, ann).error().message,
            "this node has no environment 'jax'");
  request = offer_request();
  request.set_runtime("docker");
  EXPECT_FALSE(ask<proto::Offer>(kOfferHandle, request, ann));
}

TEST_F(WorkerHostTest, StartsAWorkerWithItsEnvironmentFilesAndLimits) {
  run_worker();
  ASSERT_EQ(runner.started().size(), 1U);
  const auto& spec = runner.started().at(0);
  EXPECT_EQ(spec.id, "fashion-1.0.1");
  EXPECT_EQ(spec.keep, "fashion-1.0");
  EXPECT_EQ(spec.argv, (std::vector<std::string>{"python", "train.py"}));
  EXPECT_EQ(spec.environment.at("PATH"), "/opt/torch/bin:/usr/local/bin:/usr/bin:/bin");
  EXPECT_EQ(spec.environment.at("VIRTUAL_ENV"), "/opt/torch");
  EXPECT_EQ(spec.environment.at("HIVEMETAL_NODE"), "attic");
  EXPECT_EQ(spec.environment.at("HIVEMETAL_INITIAL_PEERS"), "/ip4/192.0.2.1/tcp/1,/ip4/192.0.2.2/tcp/2");
  EXPECT_EQ(spec.files.at(0).content, "print()");
  EXPECT_EQ(spec.limits.cpus, 1);
  EXPECT_EQ(spec.limits.memory_bytes, 512U << 20);
  EXPECT_EQ(spec.lease, 10s);
  EXPECT_EQ(renew(ann, 1, 0).state(), proto::RenewReply::RUNNING);
}

TEST_F(WorkerHostTest, StartsTheSameLeaseOnceHoweverOftenTheRequestComes) {
  const auto offer = ask<proto::Offer>(kOfferHandle, offer_request(), ann).value();
  for (int i = 0; i < 5; ++i) {
    const auto reply = ask<proto::LeaseReply>(kLeaseHandle, lease_request(offer.offer(), 0, 1), ann);
    EXPECT_EQ(reply.value().attempt(), "fashion-1.0.1");
    clock.run_for(1ms);
  }
  EXPECT_EQ(runner.started().size(), 1U);
}

TEST_F(WorkerHostTest, AnswersARenewalAtOnceWhenTheWorkerEnds) {
  run_worker();
  const auto begin = clock.now();
  EXPECT_EQ(renew(ann, 1, 1, 400).state(), proto::RenewReply::RUNNING);
  EXPECT_EQ(clock.now() - begin, 400ms) << "nothing has happened";
  asio::co_spawn(
      loop,
      [](sim::SimClock& clock, runner::FakeRunner& runner) -> asio::awaitable<void> {
        co_await clock.sleep_for(30ms);
        runner.end("fashion-1.0.1", {.reason = "SIGNAL", .signal = 9});
      }(clock, runner),
      asio::detached);
  const auto again = clock.now();
  const auto worker = renew(ann, 1, 1, 400);
  EXPECT_EQ(worker.state(), proto::RenewReply::ENDED);
  EXPECT_EQ(worker.exit().signal(), 9);
  EXPECT_EQ(clock.now() - again, 30ms);
}

TEST_F(WorkerHostTest, TellsOthersThatALeaseIsNotTheirs) {
  run_worker();
  EXPECT_EQ(renew(bob, 5).status(), proto::RenewReply::FENCED);
  EXPECT_FALSE(stop_worker(bob, 5));
  EXPECT_EQ(renew(ann, 3).status(), proto::RenewReply::LIVE);
  EXPECT_EQ(renew(ann, 2).status(), proto::RenewReply::FENCED) << "an older epoch";
  proto::LogRequest log;
  log.set_attempt("fashion-1.0.1");
  log.set_bytes_max(100);
  EXPECT_FALSE(ask<proto::LogReply>(kLogHandle, log, bob));
  EXPECT_TRUE(ask<proto::LogReply>(kLogHandle, log, ann));
}

TEST_F(WorkerHostTest, StopsAWorkerThatNobodyRenews) {
  run_worker();
  clock.run_for(11s);
  EXPECT_EQ(runner.attempts().at(0).state, runner::AttemptState::Ended);
  const auto worker = renew(ann, 1);
  EXPECT_EQ(worker.state(), proto::RenewReply::ENDED);
  EXPECT_EQ(worker.exit().reason(), "LEASE_EXPIRED");
  EXPECT_EQ(host->free().milli_cpus, 2000U);
}

TEST_F(WorkerHostTest, StopsAWorkerThatIsStillBeingStarted) {
  runner.script([](const runner::AttemptSpec&) { return runner::FakeRunner::Script{.start_takes = 500ms}; });
  run_worker();
  EXPECT_TRUE(stop_worker(ann, 2));
  clock.run_for(1s);
  EXPECT_EQ(runner.attempts().at(0).state, runner::AttemptState::Ended);
  EXPECT_EQ(renew(ann, 2).state(), proto::RenewReply::ENDED);
  EXPECT_TRUE(stop_worker(ann, 3)) << "now it is forgotten";
  EXPECT_EQ(renew(ann, 3).status(), proto::RenewReply::UNKNOWN);
}

TEST_F(WorkerHostTest, GoesOnWithItsLeasesAfterARestart) {
  run_worker();
  stop();
  clock.run_for(5s);
  start();
  EXPECT_EQ(renew(ann, 1).state(), proto::RenewReply::RUNNING);
  EXPECT_EQ(host->free().milli_cpus, 1000U);
  EXPECT_EQ(renew(bob, 1).status(), proto::RenewReply::FENCED);
  clock.run_for(8s);
  EXPECT_EQ(renew(ann, 1).state(), proto::RenewReply::RUNNING) << "a full lease, from the restart on";
}

TEST_F(WorkerHostTest, KnowsAfterARestartHowAWorkerHasEnded) {
  run_worker();
  stop();
  runner.end("fashion-1.0.1", {.reason = "EXIT", .code = 7});
  start();
  const auto worker = renew(ann, 1);
  EXPECT_EQ(worker.state(), proto::RenewReply::ENDED);
  EXPECT_EQ(worker.exit().code(), 7);
}

TEST_F(WorkerHostTest, StopsAttemptsThatNoLeaseExplains) {
  run_worker();
  stop();
  store = MemoryRunStore();
  start();
  EXPECT_TRUE(runner.attempts().empty());
}

TEST_F(WorkerHostTest, KeepsTheLastEventsOfAWorkerAndSendsThemBeforeItsEnd) {
  run_worker();
  EXPECT_EQ(host->worker_event("nobody", {{"event", "note"}}).error().code, ErrorCode::NotFound);
  EXPECT_EQ(host->worker_event("fashion-1.0.1", "text").error().code, ErrorCode::Invalid);
  EXPECT_EQ(host->worker_event("fashion-1.0.1", {{"text", std::string(20'000, 'x')}}).error().code,
            ErrorCode::Invalid);
  for (int i = 0; i < 400; ++i)
    EXPECT_TRUE(host->worker_event("fashion-1.0.1", {{"n", i}, {"pad", std::string(8000, 'x')}}));
  runner.end("fashion-1.0.1", {.reason = "EXIT", .code = 0});
  const auto first = renew(ann, 1);
  EXPECT_EQ(first.state(), proto::RenewReply::RUNNING);
  EXPECT_EQ(nlohmann::json::parse(first.events(0)).at("n"), 400 - 256);
  EXPECT_LT(first.events_size(), 140) << "an answer stays small";
}

TEST_F(WorkerHostTest, CountsMalformedRequestsAndGoesOn) {
  Random random(1);
  for (const char* handle :
       {kOfferHandle, kLeaseHandle, kRenewHandle, kStopHandle, kLogHandle, "HivemetalNode.rpc_x"}) {
    for (int i = 0; i < 50; ++i)
      EXPECT_FALSE(clock.run(host->handle(handle, bob, random_bytes(random, 1 + random() % 200))));
  }
  EXPECT_GE(host->rejected(), 200U);
  auto request = lease_request(1, 0, 1);
  request.set_job("{\"name\": 1}");
  EXPECT_EQ(ask<proto::LeaseReply>(kLeaseHandle, request, ann).error().code, ErrorCode::Invalid);
  EXPECT_TRUE(ask<proto::Offer>(kOfferHandle, offer_request(), ann));
}

}  // namespace
}  // namespace hivemetal::scheduler
