#include "runner/attempt/messages.h"

#include <gtest/gtest.h>

namespace hivemetal::runner {
namespace {

GuardSpec a_spec() {
  GuardSpec spec;
  spec.attempt = "run.0.1";
  spec.argv = {"python3", "train.py"};
  spec.environment = {{"A", "1"}, {"B", "two\nlines"}};
  spec.folder = "/n/attempts/run.0.1";
  spec.work = "/n/attempts/run.0.1/work";
  spec.uid = 1'879'048'192;
  spec.cgroup2 = "/c/jobs/run.0.1";
  spec.cgroup1 = {"/m/run.0.1", "/p/run.0.1"};
  spec.file_size_max = UINT64_MAX;
  spec.log_bytes_max = 1 << 20;
  spec.grace_ms = 10'000;
  return spec;
}

TEST(Messages, ReadBackTheSpecTheyWrote) {
  const auto line = encode(a_spec());
  ASSERT_TRUE(line);
  EXPECT_EQ(line->find('\n'), std::string::npos);
  EXPECT_EQ(decode_guard_spec(*line).value(), a_spec());
}

TEST(Messages, RefuseASpecThatIsNotUtf8OrTooLong) {
  GuardSpec spec = a_spec();
  spec.argv.push_back("\xff");
  EXPECT_EQ(encode(spec).error().code, ErrorCode::Invalid);
  spec.argv.back() = std::string(1 << 20, 'x');
  EXPECT_EQ(encode(spec).error().code, ErrorCode::Invalid);
}

TEST(Messages, NeverRunAnythingAsRootByMistake) {
  GuardSpec spec = a_spec();
  for (const std::uint32_t uid : {0U, UINT32_MAX}) {
    spec.uid = uid;
    EXPECT_FALSE(decode_guard_spec(encode(spec).value()));
  }
}

TEST(Messages, NameTheFieldThatIsWrong) {
  EXPECT_EQ(decode_command(R"({"op":"fly"})").error().message, "command: 'op' is none that we know");
  EXPECT_EQ(decode_command(R"({"op":"stop","duration_ms":"1"})").error().message,
            "command: 'duration_ms' has a wrong type or range");
  EXPECT_EQ(decode_command("[]").error().message, "command: not a JSON object");
  EXPECT_EQ(decode_guard_state(R"({"attempt":"a","phase":"ended","worker":{"pid":1,"start_time":2}})")
                .error()
                .message,
            "guard state: 'exit' does not fit 'phase'");
  EXPECT_FALSE(decode_command(R"({"op":"renew","duration_ms":99999999999999})"));
}

TEST(Messages, ReadBackCommandsAndStates) {
  const Command stop{Command::Kind::Stop, "STOPPED", 250};
  EXPECT_EQ(decode_command(encode(stop)).value(), stop);

  GuardState state{"run.0.1", GuardState::Phase::Ended, {42, 4711}, ExitRecord{}};
  state.exit->reason = "SIGNAL";
  state.exit->signal = 9;
  state.exit->degradations = {"oom_protect"};
  const GuardState read = decode_guard_state(encode(state)).value();
  EXPECT_EQ(read.worker, state.worker);
  EXPECT_EQ(read.exit->signal, 9);
  EXPECT_EQ(read.exit->code, std::nullopt);
  EXPECT_EQ(read.exit->degradations, state.exit->degradations);
}

TEST(Messages, ReadBackTheRecordAndRefuseAnotherVersion) {
  AttemptRecord record;
  record.attempt = "run.0.1";
  record.state = AttemptRecord::State::Stopping;
  record.boot_id = "b";
  record.uid = 7;
  record.cgroup1 = {"/m"};
  record.guard = {10, 20};
  record.reason = "STOPPED";
  const AttemptRecord read = decode_attempt_record(encode(record)).value();
  EXPECT_EQ(read.state, record.state);
  EXPECT_EQ(read.uid, 7U);
  EXPECT_EQ(read.guard, record.guard);
  EXPECT_FALSE(read.exit);

  std::string text = encode(record);
  text.replace(text.find("\"v\":1"), 5, "\"v\":2");
  EXPECT_EQ(decode_attempt_record(text).error().message, "attempt record: version 2 is not ours");
}

TEST(Messages, SurviveTextThatIsNotUtf8InARecord) {
  ExitRecord exit;
  exit.reason = "EXEC_FAILED";
  exit.detail = "exec \xff\xfe: ENOENT";
  EXPECT_TRUE(decode_exit_record(encode(exit)));
}

}  // namespace
}  // namespace hivemetal::runner
