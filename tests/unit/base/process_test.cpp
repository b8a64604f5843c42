#include "runtime/base/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file.h"

namespace troupe {
namespace {

using testing::HasSubstr;

constexpr int kLong = 20'000;  // ms; no test waits so long unless it fails

TEST(ChildProcess, EndsWithItsExitCode) {
  auto child = ChildProcess::start({.arguments = {"sh", "-c", "exit 7"}});
  ASSERT_TRUE(child.ok()) << child.error().message();
  const auto end = child->wait(kLong);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->exit_code, 7);
  EXPECT_EQ(end->signal, 0);
  EXPECT_EQ(end->describe(), "exited with code 7");
  EXPECT_EQ(child->poll()->exit_code, 7);  // asked again
}

TEST(ChildProcess, TellsWhichSignalKilledIt) {
  auto child = ChildProcess::start({.arguments = {"sleep", "1000"}});
  ASSERT_TRUE(child.ok());
  EXPECT_FALSE(child->poll());
  child->send(SIGKILL);
  EXPECT_EQ(child->wait(kLong)->describe(), "was killed by SIGKILL");
}

TEST(ChildProcess, AProgramThatIsNotThereIsNamed) {
  const auto child = ChildProcess::start({.arguments = {"no-such-program-anywhere"}});
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().kind(), ErrorKind::environment);
  EXPECT_THAT(child.error().message(), HasSubstr("no-such-program-anywhere"));
}

TEST(ChildProcess, TakesItsEnvironmentAndWritesWhereItIsTold) {
  char folder[] = "/tmp/troupe-process-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string output = std::string(folder) + "/output";
  for (int i = 0; i < 2; ++i) {
    auto child = ChildProcess::start({.arguments = {"sh", "-c", "echo $GREETING; echo bad >&2"},
                                      .environment = {{"GREETING", "hello"}},
                                      .output = output});
    ASSERT_TRUE(child.ok());
    ASSERT_TRUE(child->wait(kLong));
  }
  EXPECT_EQ(*read_file(output), "hello\nbad\nhello\nbad\n");
  PosixFileSystem files;
  EXPECT_TRUE(remove_all(files, folder).ok());
}

TEST(ChildProcess, HearsOfItsEndWhereSigchldWasIgnored) {
  ::signal(SIGCHLD, SIG_IGN);
  auto child = ChildProcess::start({.arguments = {"sh", "-c", "exit 7"}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(kLong)->describe(), "exited with code 7");
  ::signal(SIGCHLD, SIG_DFL);
}

TEST(ChildProcess, SaysWhyAProgramDoesNotRun) {
  char folder[] = "/tmp/troupe-process-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string program = std::string(folder) + "/program";
  PosixFileSystem files;
  ASSERT_TRUE(write_file_atomically(files, program, "not a program").ok());
  ASSERT_EQ(::chmod(program.c_str(), 0755), 0);
  const auto child = ChildProcess::start({.arguments = {program}});
  ASSERT_FALSE(child.ok());
  EXPECT_EQ(child.error().message(), program + ": cannot be started: Exec format error");
  EXPECT_TRUE(remove_all(files, folder).ok());
}

TEST(ChildProcess, InheritsNoDescriptors) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);  // as libraries make them
  ASSERT_GE(socket, 3);
  auto child = ChildProcess::start({.arguments = {"sh", "-c", fmt::format("test ! -e /proc/self/fd/{}", socket)}});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(kLong)->describe(), "exited with code 0");
  ::close(socket);
}

TEST(ChildProcess, DestroyedWhileItRunsItIsKilledWithItsSession) {
  pid_t pid = 0;
  {
    auto child = ChildProcess::start({.arguments = {"sh", "-c", "sleep 1000 & wait"}, .own_session = true});
    ASSERT_TRUE(child.ok());
    pid = child->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ProcessHandle, AStrangerIsKilledAndWaitedFor) {
  auto child = ChildProcess::start({.arguments = {"sleep", "1000"}});
  ASSERT_TRUE(child.ok());
  const auto handle = ProcessHandle::open(child->pid());
  ASSERT_TRUE(handle);
  EXPECT_FALSE(handle->ended());
  handle->send(SIGKILL);
  EXPECT_TRUE(handle->ended(kLong));
  EXPECT_EQ(child->wait(kLong)->signal, SIGKILL);
  EXPECT_TRUE(handle->ended());
  handle->send(SIGKILL);
  EXPECT_FALSE(ProcessHandle::open(child->pid())) << "gone already";
}

}  // namespace
}  // namespace troupe
