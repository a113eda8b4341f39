#include "node/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "node/file.h"
#include "node/testing.h"

namespace hivemetal::node {
namespace {

using testing::HasSubstr;

TEST(Directory, IsTraversableByWorkersAndKeepsItsVersion) {
  const TemporaryFolder folder;
  const auto directory = NodeDirectory::open(folder.path() / "n").value();
  struct stat status{};
  ASSERT_EQ(::stat(directory.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0711u);
  EXPECT_EQ(read_file(directory.path() / "version", 64).value(), "1\n");
  EXPECT_TRUE(NodeDirectory::open(folder.path() / "n").has_value());
}

TEST(Directory, OfANewerVersionIsLeftAlone) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "version", "2\n", 0600));
  const auto directory = NodeDirectory::open(folder.path());
  ASSERT_FALSE(directory.has_value());
  EXPECT_EQ(directory.error().code, ErrorCode::Refused);
  EXPECT_THAT(directory.error().message,
              HasSubstr("written by a newer hivemetal (directory version 2, this program knows 1); upgrade"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "attempts"));
}

TEST(Directory, WithAVersionThatIsNoNumberIsRefused) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "version", "one\n", 0600));
  EXPECT_EQ(NodeDirectory::open(folder.path()).error().code, ErrorCode::Invalid);
}

TEST(Directory, IsUsedByOneDaemonAtATime) {
  const TemporaryFolder folder;
  const auto directory = NodeDirectory::open(folder.path()).value();
  {
    const auto first = DirectoryLock::take(directory);
    ASSERT_TRUE(first.has_value());
    const auto second = DirectoryLock::take(directory);
    ASSERT_FALSE(second.has_value());
    EXPECT_THAT(second.error().message,
                HasSubstr("another hivemetal node (pid " + std::to_string(::getpid()) + ") uses " +
                          folder.path().string()));
  }
  EXPECT_TRUE(DirectoryLock::take(directory).has_value());
}

TEST(Directory, ThatIsAFileIsAnErrorWithARemedy) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "file", "", 0600));
  EXPECT_THAT(NodeDirectory::open(folder.path() / "file").error().message,
              HasSubstr("choose another one with --dir"));
  EXPECT_FALSE(NodeDirectory::open(folder.path() / "file" / "below").has_value());
}

TEST(Directory, WithALongNameHasItsSocketElsewhere) {
  const auto near = control_socket_of("/srv/node/");
  EXPECT_EQ(near, "/srv/node/node.sock");
  const auto far = control_socket_of("/srv/" + std::string(200, 'x'));
  EXPECT_LE(far.native().size(), 107u);
  EXPECT_EQ(far, control_socket_of("/srv/" + std::string(200, 'x')));
  EXPECT_NE(far, control_socket_of("/srv/" + std::string(200, 'y')));
}

TEST(File, IsReplacedAsAWholeAndNeverReadWithoutABound) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "f";
  ASSERT_TRUE(write_file(file, "one", 0600));
  ASSERT_TRUE(write_file(file, "two", 0600));
  EXPECT_EQ(read_file(file, 3).value(), "two");
  EXPECT_THAT(read_file(file, 2).error().message, HasSubstr("is it the right file?"));
  EXPECT_EQ(read_file(folder.path() / "absent", 10).error().code, ErrorCode::NotFound);
  EXPECT_EQ(read_file(folder.path(), 10).error().code, ErrorCode::Invalid);
  EXPECT_EQ(read_file("/dev/zero", 10).error().code, ErrorCode::Invalid);
}

TEST(File, SaysThatTheDiskIsFull) {
  const auto error = system_error("cannot write x", ENOSPC);
  EXPECT_THAT(error.message, HasSubstr("the disk is full; free some space"));
}

}  // namespace
}  // namespace hivemetal::node
