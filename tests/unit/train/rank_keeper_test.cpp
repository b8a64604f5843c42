#include "actors/train/rank_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace troupe::train {
namespace {

constexpr int kLong = 20'000;  // ms; no test waits so long unless it fails

// A process that splits into a keeper and a rank, which does as told; how the keeper ended.
ProcessEnd end_of_keeper(const RankEnds& ends, int rank, const std::function<void()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (!keep_rank(rank, ends.address()).ok()) _exit(99);
    body();
    _exit(0);
  }
  const auto process = ProcessHandle::open(pid);
  EXPECT_TRUE(process && process->ended(kLong)) << "the keeper does not end";
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
}

void say(const char* text) { (void)!write(STDERR_FILENO, text, strlen(text)); }

TEST(RankKeeper, TellsTheExitCodeAndTheLastLine) {
  auto ends = RankEnds::listen();
  ASSERT_TRUE(ends.ok()) << ends.error().message();
  EXPECT_FALSE(ends->take()) << "nobody has ended";
  const ProcessEnd keeper = end_of_keeper(*ends, 3, [] {
    say("first words\nlast words\n\n");
    _exit(7);
  });
  EXPECT_EQ(keeper.describe(), "exited with code 7") << "as the rank did";
  const auto end = ends->take();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->rank, 3);
  EXPECT_EQ(end->end.describe(), "exited with code 7");
  EXPECT_EQ(end->last_words, "last words");
  EXPECT_FALSE(ends->take());
}

TEST(RankKeeper, TellsTheSignal) {
  auto ends = RankEnds::listen();
  ASSERT_TRUE(ends.ok());
  const ProcessEnd keeper = end_of_keeper(*ends, 0, [] {
    say("in the middle of a li");
    kill(getpid(), SIGKILL);
  });
  EXPECT_EQ(keeper.describe(), "was killed by SIGKILL");
  const auto end = ends->take();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->end.describe(), "was killed by SIGKILL");
  EXPECT_EQ(end->last_words, "in the middle of a li");
  EXPECT_GT(end->at.count(), 0);
}

TEST(RankKeeper, CutsALineWithoutEnd) {
  auto ends = RankEnds::listen();
  ASSERT_TRUE(ends.ok());
  end_of_keeper(*ends, 0, [] {
    for (int i = 0; i < 300; ++i) say(". ! ");
  });
  const auto end = ends->take();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->last_words.size(), 500u);
}

TEST(RankKeeper, ARankDoesNotOutliveItsKeeper) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  auto ends = RankEnds::listen();
  ASSERT_TRUE(ends.ok());
  const pid_t keeper = fork();
  if (keeper == 0) {
    if (!keep_rank(0, ends->address()).ok()) _exit(99);
    const pid_t self = getpid();
    (void)!write(ready[1], &self, sizeof self);
    for (;;) pause();
  }
  pid_t rank = 0;
  ASSERT_EQ(read(ready[0], &rank, sizeof rank), static_cast<ssize_t>(sizeof rank));
  const auto process = ProcessHandle::open(rank);
  ASSERT_TRUE(process);
  kill(keeper, SIGTERM);
  EXPECT_FALSE(process->ended()) << "mpirun's request is ignored";
  kill(keeper, SIGKILL);
  EXPECT_TRUE(process->ended(kLong));
  waitpid(keeper, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST(RankKeeper, NobodyNeedsToListen) {
  std::string address;
  {
    auto ends = RankEnds::listen();
    ASSERT_TRUE(ends.ok());
    address = ends->address();
  }
  const pid_t keeper = fork();
  if (keeper == 0) {
    if (!keep_rank(0, address).ok()) _exit(99);
    _exit(5);
  }
  int status = 0;
  waitpid(keeper, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 5);
}

}  // namespace
}  // namespace troupe::train
