#include "runtime/base/file_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/file.h"

namespace troupe {
namespace {

using testing::HasSubstr;

class FileLockTest : public testing::Test {
 protected:
  FileLockTest() { EXPECT_NE(mkdtemp(folder_), nullptr); }
  ~FileLockTest() override {
    PosixFileSystem files;
    EXPECT_TRUE(remove_all(files, folder_).ok());
  }
  std::string path() const { return std::string(folder_) + "/lock"; }

  char folder_[32] = "/tmp/troupe-lock-XXXXXX";
};

TEST_F(FileLockTest, IsHeldByOneAndFreeAfterIt) {
  {
    const auto first = FileLock::take(path());
    ASSERT_TRUE(first.ok()) << first.error().message();
    const auto second = FileLock::take(path());
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind(), ErrorKind::usage);
    EXPECT_THAT(second.error().message(), HasSubstr(fmt::format("held by process {} on ", getpid())));
  }
  EXPECT_TRUE(FileLock::take(path()).ok());
}

TEST_F(FileLockTest, IsFreeWhenItsHolderIsKilled) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t holder = fork();
  if (holder == 0) {
    const auto lock = FileLock::take(path());
    (void)!write(ready[1], lock.ok() ? "y" : "n", 1);
    while (true) pause();
  }
  char answer = 0;
  ASSERT_EQ(read(ready[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_FALSE(FileLock::take(path()).ok());
  kill(holder, SIGKILL);
  ASSERT_EQ(waitpid(holder, nullptr, 0), holder);
  EXPECT_TRUE(FileLock::take(path()).ok());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(FileLockTest, AFolderThatIsNotThereIsAnError) {
  const auto lock = FileLock::take(path() + "/below");
  ASSERT_FALSE(lock.ok());
  EXPECT_THAT(lock.error().message(), HasSubstr("/below"));
}

}  // namespace
}  // namespace troupe
