#include "runtime/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "runtime/base/check.h"

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "troupe-file-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
  }
  void TearDown() override { EXPECT_TRUE(remove_all(files, folder).ok()); }

  std::string at(const std::string& name) const { return folder + "/" + name; }
  std::string contents(const std::string& name) const {
    auto text = read_file(at(name));
    return text.ok() ? *text : "absent";
  }
  void put(const std::string& name, std::string_view text) {
    const auto status = write_file_atomically(files, at(name), text);
    ASSERT_TRUE(status.ok()) << status.error().message();
  }
  std::vector<std::string> names() {
    std::vector<std::string> result;
    const auto entries = files.list(folder);
    for (const auto& entry : *entries) result.push_back(entry.name);
    return result;
  }

  PosixFileSystem files;
  std::string folder;
};

// Passes everything on, but fails the operation of a given number, and names each one.
class FaultyFileSystem : public FileSystem {
 public:
  FaultyFileSystem(FileSystem& real, int fails_at) : real_(real), fails_at_(fails_at) {}

  std::vector<std::string> log;

  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override {
    TROUPE_TRY(step("create"));
    auto file = TROUPE_TRY(real_.create(path));
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file)));
  }
  Status rename(const std::string& from, const std::string& to) override {
    TROUPE_TRY(step("rename"));
    return real_.rename(from, to);
  }
  Status remove(const std::string& path) override { return real_.remove(path); }
  Status create_directory(const std::string& path) override { return real_.create_directory(path); }
  Status sync_directory(const std::string& path) override {
    TROUPE_TRY(step("sync_directory"));
    return real_.sync_directory(path);
  }
  Result<std::vector<DirectoryEntry>> list(const std::string& path) override { return real_.list(path); }

 private:
  class File : public WritableFile {
   public:
    File(FaultyFileSystem& owner, std::unique_ptr<WritableFile> real) : owner_(owner), real_(std::move(real)) {}
    Status write(std::span<const std::byte> bytes) override {
      TROUPE_TRY(owner_.step("write"));
      return real_->write(bytes);
    }
    Status sync() override {
      TROUPE_TRY(owner_.step("sync"));
      return real_->sync();
    }
    Status close() override {
      TROUPE_TRY(owner_.step("close"));
      return real_->close();
    }

   private:
    FaultyFileSystem& owner_;
    std::unique_ptr<WritableFile> real_;
  };

  Status step(const char* name) {
    log.push_back(name);
    if (static_cast<int>(log.size()) == fails_at_) return failed("no space in {}", name);
    return {};
  }

  FileSystem& real_;
  int fails_at_;
};

TEST_F(FileTest, WhatIsWrittenIsRead) {
  for (const std::string& text : {std::string(), std::string("a\0b", 3), std::string(4095, 'x'), std::string(4096, 'y'),
                                  std::string(100001, 'z')}) {
    put("f", text);
    EXPECT_EQ(contents("f"), text);
    EXPECT_EQ(*file_size_bytes(at("f")), static_cast<int64_t>(text.size()));
  }
  EXPECT_THAT(names(), ElementsAre("f"));
}

TEST_F(FileTest, AtomicWritingSyncsBeforeItRenamesAndTheFolderAfter) {
  FaultyFileSystem watched(files, -1);
  ASSERT_TRUE(write_file_atomically(watched, at("f"), "new").ok());
  EXPECT_THAT(watched.log, ElementsAre("create", "write", "sync", "close", "rename", "sync_directory"));
}

TEST_F(FileTest, AFailureAtAnyOperationLeavesOldOrNewAndNoTemporary) {
  for (int fails_at = 1; fails_at <= 6; ++fails_at) {
    put("f", "old");
    FaultyFileSystem faulty(files, fails_at);
    const Status status = write_file_atomically(faulty, at("f"), "new");
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().message(), "no space in " + faulty.log.back());
    EXPECT_EQ(contents("f"), fails_at == 6 ? "new" : "old");
    EXPECT_THAT(names(), ElementsAre("f"));
  }
}

TEST_F(FileTest, AnAbandonedAtomicFileLeavesNoTrace) {
  {
    auto file = AtomicFile::create(files, at("f"), ".tmp.7");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write("half").ok());
    AtomicFile moved = std::move(*file);
    EXPECT_THAT(names(), ElementsAre("f.tmp.7"));
  }
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(FileTest, AFullDiskIsNamedWithPathAndBytes) {
  auto full = files.create("/dev/full");
  ASSERT_TRUE(full.ok());
  const std::vector<std::byte> bytes(1000);
  const Status status = (*full)->write(bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message(), "/dev/full: cannot write 1000 bytes at offset 0: No space left on device");
  EXPECT_EQ(status.error().kind(), ErrorKind::failed);

  auto lines = LineWriter::open("/dev/full");
  ASSERT_TRUE(lines.ok());
  EXPECT_EQ(lines->write("{}").error().message(), "/dev/full: cannot append 3 bytes: No space left on device");
}

TEST_F(FileTest, UnwritablePlacesAreNamed) {
  put("f", "a file");
  EXPECT_THAT(write_file_atomically(files, at("f/inside"), "x").error().message(),
              StartsWith(at("f/inside.tmp") + ": cannot create the file: Not a directory"));
  EXPECT_THAT(write_file_atomically(files, at("none/f"), "x").error().message(),
              HasSubstr("No such file or directory"));
  ASSERT_TRUE(files.create_directory(at("folder")).ok());
  ASSERT_TRUE(files.create_directory(at("folder/full")).ok());
  EXPECT_FALSE(write_file_atomically(files, at("folder"), "x").ok());
  EXPECT_FALSE(exists(at("folder.tmp")));
  EXPECT_FALSE(LineWriter::open(at("folder")).ok());
  EXPECT_FALSE(files.create_directory(at("f")).ok());
  EXPECT_FALSE(create_directories(files, at("f/a/b")).ok());
  EXPECT_FALSE(files.remove(at("folder")).ok());
  EXPECT_FALSE(files.rename(at("none"), at("other")).ok());
  EXPECT_FALSE(files.list(at("none")).ok());
  EXPECT_FALSE(files.sync_directory(at("none")).ok());
}

TEST_F(FileTest, UnreadablePlacesAreNamed) {
  EXPECT_EQ(read_file(at("none")).error().message(), at("none") + ": cannot open the file: No such file or directory");
  EXPECT_EQ(read_file(folder).error().message(), folder + ": is a folder, where a file is wanted");
  EXPECT_EQ(MappedFile::open(folder).error().message(), folder + ": is a folder, where a file is wanted");
  EXPECT_FALSE(MappedFile::open(at("none")).ok());
  EXPECT_FALSE(file_size_bytes(at("none")).ok());
  EXPECT_FALSE(file_size_bytes(folder).ok());
  EXPECT_FALSE(free_space_bytes(at("none")).ok());
  put("f", "12345");
  EXPECT_EQ(read_file(at("f"), 4).error().message(), at("f") + ": is longer than 4 bytes");
  EXPECT_TRUE(read_file(at("f"), 5).ok());
}

TEST_F(FileTest, FilesThatHideTheirSizeAreReadToTheEnd) {
  auto status = read_file("/proc/self/status");
  ASSERT_TRUE(status.ok());
  EXPECT_THAT(*status, HasSubstr("VmRSS"));
}

TEST_F(FileTest, MappedBytesAreTheFiles) {
  put("f", "hello");
  put("empty", "");
  auto mapped = MappedFile::open(at("f"));
  auto empty = MappedFile::open(at("empty"));
  ASSERT_TRUE(mapped.ok() && empty.ok());
  using enum MappedFile::Access;
  for (const auto access : {normal, sequential, random, soon}) {
    mapped->advise(access);
    empty->advise(access);
  }
  EXPECT_EQ(mapped->text(), "hello");
  EXPECT_EQ(empty->text(), "");
  MappedFile moved = std::move(*mapped);
  EXPECT_EQ(moved.text(), "hello");
  EXPECT_TRUE(mapped->bytes().empty());
  *empty = std::move(moved);
  EXPECT_EQ(empty->bytes().size(), 5u);
}

TEST_F(FileTest, DirectoriesAreMadeListedAndRemovedWhole) {
  ASSERT_TRUE(create_directories(files, at("a/b//c/")).ok());
  ASSERT_TRUE(create_directories(files, at("a/b/c")).ok());
  put("a/b/file", "12");
  put("outside", "kept");
  ASSERT_EQ(::symlink(at("outside").c_str(), at("a/link").c_str()), 0);
  ASSERT_EQ(::symlink(at("a").c_str(), at("whole").c_str()), 0);
  auto listed = files.list(at("a/b"));
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 2u);
  EXPECT_EQ((*listed)[0].name, "c");
  EXPECT_TRUE((*listed)[0].is_directory);
  EXPECT_EQ((*listed)[1].name, "file");
  EXPECT_FALSE((*listed)[1].is_directory);
  EXPECT_EQ((*listed)[1].size_bytes, 2);

  ASSERT_TRUE(remove_all(files, at("whole")).ok());
  EXPECT_TRUE(exists(at("a/b/file")));
  ASSERT_TRUE(remove_all(files, at("a/")).ok());
  EXPECT_THAT(names(), ElementsAre("outside"));
  ASSERT_TRUE(remove_all(files, at("a")).ok());
  ASSERT_TRUE(remove_all(files, at("none/deeper")).ok());
  ASSERT_TRUE(remove_all(files, at("outside")).ok());
  EXPECT_THROW((void)remove_all(files, "/"), CheckFailure);
}

TEST_F(FileTest, ParentsOfPaths) {
  EXPECT_EQ(parent_directory("a/b"), "a");
  EXPECT_EQ(parent_directory("b"), ".");
  EXPECT_EQ(parent_directory("/b"), "/");
  EXPECT_EQ(parent_directory("/a/b/c"), "/a/b");
}

TEST_F(FileTest, FreeSpaceIsKnown) { EXPECT_GT(free_space_bytes(folder).value(), 0); }

TEST_F(FileTest, LinesAreAppendedWhole) {
  {
    auto lines = LineWriter::open(at("log"));
    ASSERT_TRUE(lines.ok());
    EXPECT_TRUE(lines->write("one").ok());
    EXPECT_TRUE(lines->write("").ok());
    EXPECT_THROW((void)lines->write("two\nlines"), CheckFailure);
    EXPECT_EQ(contents("log"), "one\n\n");
  }
  auto first = LineWriter::open(at("log"));
  auto second = LineWriter::open(at("log"));
  EXPECT_TRUE(first->write("two").ok());
  EXPECT_TRUE(second->write("three").ok());
  LineWriter moved = std::move(*first);
  EXPECT_TRUE(moved.write("four").ok());
  EXPECT_EQ(contents("log"), "one\n\ntwo\nthree\nfour\n");
}

TEST_F(FileTest, OpeningCutsOffATornLastLine) {
  for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{
           {"a\nb", "a\n"}, {"torn", ""}, {"a\n" + std::string(10000, 'x'), "a\n"}, {"a\n", "a\n"}, {"", ""}}) {
    put("log", before);
    ASSERT_TRUE(LineWriter::open(at("log")).ok());
    EXPECT_EQ(contents("log"), after);
  }
}

}  // namespace
}  // namespace troupe
