// Checkpoints that were damaged, disks that are full or read-only, losses that are not finite: the cause in one
// line, the documented exit code, and the last good checkpoint as it was.
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <filesystem>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class Damage : public EndToEnd {
 protected:
  Outcome generate(const std::string& checkpoint) const {
    return troupe({"generate", "--checkpoint", checkpoint, "--prompt", "the ", "--max-tokens", "4", "--quiet"});
  }
  void expect_usable(const std::string& checkpoint) const {
    const Outcome outcome = generate(checkpoint);
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    EXPECT_EQ(outcome.err, "");
  }
  // Resumes a run of 20 steps whose checkpoint of step 20 is bad from step 15, with one warning.
  void expect_older_one_is_used(const std::string& out, const std::vector<std::string>& warning) const {
    copy(out, "resumed");
    const Outcome outcome = train("resumed", {"checkpoint.keep=1"}, true);
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    const auto said = messages(outcome.err);
    ASSERT_EQ(said.size(), 1u) << describe(outcome);
    EXPECT_THAT(said[0], StartsWith("troupe: warning: "));
    for (const std::string& part : warning) EXPECT_THAT(said[0], HasSubstr(part));
    EXPECT_THAT(outcome.out, HasSubstr("resumed    after step 15"));
    expect_usable(checkpoint("resumed", 20));
    EXPECT_EQ(tensors("resumed", 20), tensors("undamaged", 20));
    EXPECT_THAT(list("resumed/checkpoints"), ElementsAre("damaged-step-00000020", "step-00000020"));
    std::filesystem::remove_all(path("resumed"));
  }
  void expect_none_left(const std::string& out, const std::vector<std::string>& parts) const {
    for (int step : {5, 10, 15}) std::filesystem::remove_all(path(checkpoint(out, step)));
    expect_failure(train(out, {}, true), 4, parts);
    EXPECT_TRUE(exists(checkpoint(out, 20)));
  }
  // The place of a tensor's first byte in a shard.
  size_t offset_of(const std::string& folder, const std::string& tensor) const {
    const auto manifest = boost::json::parse(read(folder + "/manifest.json"));
    for (const auto& record : manifest.at("tensors").as_array()) {
      if (record.at("name").as_string() == tensor.c_str()) return record.at("offset").to_number<size_t>();
    }
    ADD_FAILURE() << "no tensor " << tensor;
    return 0;
  }
};

// A file system in memory, mounted for this process and its children alone; gone when the process ends.
bool mount_memory(const std::string& folder, const std::string& options) {
  return ::geteuid() == 0 && ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 && ::mkdir(folder.c_str(), 0777) == 0 &&
         ::mount("tmpfs", folder.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

TEST_F(Damage, ATruncatedShardIsNamedAndTheOlderCheckpointUsed) {
  train_in_fives("out");
  copy("out", "undamaged");
  const std::string shard = checkpoint("out", 20) + "/shard-00000.h5";
  truncate(shard, 100000);
  expect_failure(generate(checkpoint("out", 20)), 4, {shard, "has 100000 bytes"});
  const Outcome of_run = generate("out");
  EXPECT_EQ(of_run.exit_code, 0) << describe(of_run);
  EXPECT_THAT(messages(of_run.err), ElementsAre(AllOf(StartsWith("troupe: warning: "), HasSubstr(shard))));
  expect_older_one_is_used("out", {"step-00000020/shard-00000.h5", "has 100000 bytes"});
  expect_none_left("out", {shard});
}

TEST_F(Damage, AFlippedByteIsNamedByFileTensorAndRange) {
  train_in_fives("out");
  copy("out", "undamaged");
  const std::string shard = checkpoint("out", 20) + "/shard-00000.h5";
  flip(shard, offset_of(checkpoint("out", 20), "model/blocks.1.attention.query.weight") + 1234);
  const std::vector<std::string> parts{"shard-00000.h5", "checksum mismatch", "model/blocks.1.attention.query.weight",
                                       "bytes 0–4095"};
  expect_failure(generate(checkpoint("out", 20)), 4, parts);
  expect_older_one_is_used("out", parts);
  expect_none_left("out", parts);
}

TEST_F(Damage, AFlippedByteOfOptimizerStateIsFound) {
  train_well("out");
  const std::string name = "optimizer/second_moment/blocks.0.attention.key.weight";
  flip(checkpoint("out", 20) + "/shard-00000.h5", offset_of(checkpoint("out", 20), name) + 5);
  expect_failure(train("out", {}, true), 4, {"checksum mismatch", name});
  expect_usable("out");
}

TEST_F(Damage, AManifestCutOffMakesItNoCheckpoint) {
  train_in_fives("out");
  copy("out", "undamaged");
  const std::string manifest = checkpoint("out", 20) + "/manifest.json";
  truncate(manifest, read(manifest).size() / 2);
  expect_failure(generate(checkpoint("out", 20)), 4, {manifest, "cut short"});
  expect_older_one_is_used("out", {"step-00000020/manifest.json", "cut short"});
  expect_none_left("out", {manifest});
}

TEST_F(Damage, AChangedByteOfTheManifestIsFound) {
  train_well("out");
  const std::string manifest = checkpoint("out", 20) + "/manifest.json";
  flip(manifest, read(manifest).find("\"step\": 20") + 8);
  expect_failure(generate(checkpoint("out", 20)), 4, {manifest, "checksum"});
}

TEST_F(Damage, AMissingManifestOrShardIsNamed) {
  train_well("out");
  const std::string folder = checkpoint("out", 20);
  std::filesystem::remove(path(folder + "/shard-00000.h5"));
  expect_failure(generate(folder), 4, {folder + "/shard-00000.h5", "missing"});
  std::filesystem::remove(path(folder + "/manifest.json"));
  expect_failure(generate(folder), 4, {folder, "manifest.json"});
}

TEST_F(Damage, ATokenizerThatDoesNotMatchIsRefused) {
  train_well("bytes");
  train_well("characters", {"data.tokenizer=characters"});
  const std::string theirs = checkpoint("bytes", 20) + "/tokenizer", ours = checkpoint("characters", 20) + "/tokenizer";
  std::filesystem::remove_all(path(theirs));
  copy(ours, theirs);
  const Outcome outcome = generate("bytes/checkpoints/step-00000020");
  expect_failure(outcome, 4, {"step-00000020", "tokenizer"});
}

TEST_F(Damage, AFullDiskKeepsTheEarlierCheckpoint) {
  if (!mount_memory(path("disk"), "size=1200k")) GTEST_SKIP() << "needs the right to mount";
  const Outcome outcome = train("disk/out", {"checkpoint.every=5", "checkpoint.keep=0"});
  expect_failure(outcome, 1, {"disk/out/checkpoints/", "No space left on device"});
  const auto left = list("disk/out/checkpoints");
  EXPECT_FALSE(left.empty());
  EXPECT_THAT(left, Each(StartsWith("step-"))) << "something half-written is visible";
  expect_usable("disk/out");
  for (const std::string& name : left) expect_usable("disk/out/checkpoints/" + name);
  ::umount2(path("disk").c_str(), MNT_DETACH);
}

TEST_F(Damage, ALimitOnFileSizesKeepsTheEarlierCheckpoint) {
  train_well("out", {"train.steps=5"});
  RunOptions options;
  options.largest_file_bytes = 200000;
  const Outcome outcome = troupe(train_arguments("out", {}, true), options);
  expect_failure(outcome, 1, {"step 20 was not saved", "out/checkpoints/", "File too large"});
  EXPECT_THAT(list("out/checkpoints"), ElementsAre("step-00000005"));
  expect_usable("out");
}

TEST_F(Damage, AReadOnlyOutIsAMissingPartOfTheEnvironment) {
  const std::string folder = path("fixed");
  if (::geteuid() == 0) {
    if (!mount_memory(folder, "size=100k,ro")) GTEST_SKIP() << "needs the right to mount";
  } else {
    ASSERT_EQ(::mkdir(folder.c_str(), 0555), 0);
  }
  expect_failure(train("fixed/out"), 3, {"fixed/out", "cannot create the folder"});
  expect_failure(train("fixed"), 3, {"fixed/"});
  if (::geteuid() == 0) ::umount2(folder.c_str(), MNT_DETACH);
}

TEST_F(Damage, ALossThatIsNotFiniteEndsTheRunByStepAndOperation) {
  train_well("out", {"train.steps=5"});
  expect_failure(train("out", {"train.learning_rate=1e30"}, true), 1,
                 {"step 7: ", "first not finite in ", "the last good checkpoint is " + checkpoint("out", 5)});
  EXPECT_THAT(list("out/checkpoints"), ElementsAre("step-00000005"));
  expect_usable("out");
  train_well("out", {}, true);
  EXPECT_THAT(metric("out", "loss").back(), StartsWith("20: "));
  expect_failure(train("fresh", {"train.learning_rate=1e30"}), 1, {"no checkpoint was saved yet"});
}

}  // namespace
}  // namespace troupe::e2e
