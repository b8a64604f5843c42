#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "runtime/base/random.h"

namespace troupe::checkpoint {
namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::byte> bytes_of(const Tensor& tensor) {
  const auto* begin = static_cast<const std::byte*>(tensor.raw());
  return {begin, begin + tensor.bytes()};
}

// Passes everything on, but fails operation number `first`, and all after it where `for_good`.
class FaultyFileSystem : public FileSystem {
 public:
  FaultyFileSystem(int first, bool for_good) : first_(first), for_good_(for_good) {}
  bool has_failed() const { return count_ > first_; }

  Result<std::unique_ptr<WritableFile>> create(const std::string& path) override {
    TROUPE_TRY(step("create", path));
    auto file = TROUPE_TRY(real_.create(path));
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file), path));
  }
  Status rename(const std::string& from, const std::string& to) override {
    TROUPE_TRY(step("rename", from));
    return real_.rename(from, to);
  }
  Status remove(const std::string& path) override {
    TROUPE_TRY(step("remove", path));
    return real_.remove(path);
  }
  Status create_directory(const std::string& path) override {
    TROUPE_TRY(step("make folder", path));
    return real_.create_directory(path);
  }
  Status sync_directory(const std::string& path) override {
    TROUPE_TRY(step("sync folder", path));
    return real_.sync_directory(path);
  }
  Result<std::vector<DirectoryEntry>> list(const std::string& path) override {
    TROUPE_TRY(step("list", path));
    return real_.list(path);
  }

 private:
  class File : public WritableFile {
   public:
    File(FaultyFileSystem& owner, std::unique_ptr<WritableFile> real, std::string path)
        : owner_(owner), real_(std::move(real)), path_(std::move(path)) {}
    Status write(std::span<const std::byte> bytes) override {
      if (Status status = owner_.step("write", path_); !status.ok()) {
        (void)real_->write(bytes.first(bytes.size() / 2)).ok();  // a full disk takes a part
        return status;
      }
      return real_->write(bytes);
    }
    Status sync() override {
      TROUPE_TRY(owner_.step("sync", path_));
      return real_->sync();
    }
    Status close() override {
      TROUPE_TRY(owner_.step("close", path_));
      return real_->close();
    }

   private:
    FaultyFileSystem& owner_;
    std::unique_ptr<WritableFile> real_;
    std::string path_;
  };

  Status step(std::string_view what, const std::string& path) {
    const int number = count_++;
    if (number == first_ || (for_good_ && number > first_)) return failed("{}: cannot {}: no space left", path, what);
    return {};
  }

  PosixFileSystem real_;
  int first_, count_ = 0;
  bool for_good_;
};

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "troupe-checkpoint-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root = name;
  }
  void TearDown() override { EXPECT_TRUE(remove_all(files, root).ok()); }

  Tensor random_tensor(DType dtype, Shape shape, uint64_t key) {
    Tensor tensor = Tensor::empty(*device, dtype, shape, kernels::MemoryKind::buffers);
    auto* bytes = static_cast<unsigned char*>(tensor.raw());
    RandomStream random{.key = key};
    for (int64_t i = 0; i < tensor.bytes(); i += 8) {
      const uint64_t word = random();
      std::memcpy(bytes + i, &word, static_cast<size_t>(std::min<int64_t>(8, tensor.bytes() - i)));
    }
    return tensor;
  }
  std::vector<NamedTensor> two_tensors(uint64_t key = 1) {
    return {{"model/blocks.0.w", random_tensor(DType::f32, {3, 4}, key)},
            {"optimizer/first_moment/blocks.0.w", random_tensor(DType::f32, {3, 4}, key + 1)}};
  }
  static Manifest header(int64_t step, int64_t generation = 0) {
    Manifest m;
    m.step = step;
    m.generation = generation;
    return m;
  }
  std::string save(int64_t step, const std::vector<NamedTensor>& tensors, int64_t generation = 0) {
    CheckpointStore store(files, root);
    auto folder = store.save(header(step, generation), tensors);
    EXPECT_TRUE(folder.ok()) << folder.error().message();
    return folder.ok() ? *folder : "";
  }
  void expect_holds(const std::string& folder, const std::vector<NamedTensor>& tensors) {
    const auto checkpoint = Checkpoint::open(folder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message();
    for (const NamedTensor& t : tensors) {
      Tensor read = Tensor::zeros(*device, t.tensor.dtype(), t.tensor.shape());
      const Status status = checkpoint->read(t.name, read);
      ASSERT_TRUE(status.ok()) << status.error().message();
      EXPECT_EQ(bytes_of(read), bytes_of(t.tensor)) << t.name;
    }
    EXPECT_TRUE(checkpoint->verify(device->threads()).ok());
  }
  static void flip(const std::string& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x10));
    ASSERT_TRUE(file.good());
  }
  std::vector<std::string> names() {
    std::vector<std::string> result;
    const auto entries = files.list(root);
    for (const auto& entry : *entries) result.push_back(entry.name);
    return result;
  }

  std::unique_ptr<kernels::Device> device = kernels::make_cpu_device(2);
  PosixFileSystem files;
  std::string root;
};

TEST_F(CheckpointTest, LoadsTheBitsThatItSaved) {
  std::vector<NamedTensor> tensors;
  uint64_t key = 0;
  for (DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 1, 3, 5}}) {
      tensors.push_back({fmt::format("model/{}.{}", kernels::name_of(dtype), shape.dims() * 10 + (shape[0] == 1)),
                         random_tensor(dtype, shape, ++key)});
    }
  }
  constexpr int64_t kChunk = kChunkBytes / 4;
  for (int64_t elements : {kChunk - 1, kChunk, kChunk + 1, 2 * kChunk, 2 * kChunk + 3}) {
    tensors.push_back({fmt::format("optimizer/{}", elements), random_tensor(DType::f32, {elements}, ++key)});
  }
  expect_holds(save(5, tensors), tensors);
}

TEST_F(CheckpointTest, AFlippedByteIsNamedWithFileTensorAndRange) {
  const int64_t elements = kChunkBytes / 4 + 10;
  const std::vector<NamedTensor> tensors{{"model/a", random_tensor(DType::f32, {4}, 1)},
                                         {"model/b", random_tensor(DType::f32, {elements}, 2)}};
  const std::string folder = save(1, tensors);
  const auto checkpoint = Checkpoint::open(folder);
  ASSERT_TRUE(checkpoint.ok());
  const TensorRecord record = *checkpoint->manifest().find("model/b");
  Tensor a = Tensor::zeros(*device, DType::f32, {4}), b = Tensor::zeros(*device, DType::f32, {elements});
  for (const auto& [byte, range] : {std::pair{int64_t{0}, "bytes 0–4194303"},
                                    {kChunkBytes - 1, "bytes 0–4194303"},
                                    {kChunkBytes, "bytes 4194304–4194343"},
                                    {record.bytes - 1, "bytes 4194304–4194343"}}) {
    flip(folder + "/" + record.file, record.offset + byte);
    const Status status = checkpoint->read("model/b", b);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().kind(), ErrorKind::damaged);
    EXPECT_THAT(status.error().message(),
                HasSubstr("step-00000001/shard-00000.h5: checksum mismatch in \"model/b\", "));
    EXPECT_THAT(status.error().message(), HasSubstr(range));
    EXPECT_FALSE(checkpoint->verify(device->threads()).ok());
    EXPECT_TRUE(checkpoint->read("model/a", a).ok());
    flip(folder + "/" + record.file, record.offset + byte);
  }
  EXPECT_EQ(b.to_host<float>(), std::vector<float>(static_cast<size_t>(elements)));  // no byte before its check
  EXPECT_TRUE(checkpoint->read("model/b", b).ok());
}

TEST_F(CheckpointTest, ATensorThatIsNotThereOrOfAnotherShapeIsSaid) {
  const std::string folder = save(1, two_tensors());
  const auto checkpoint = Checkpoint::open(folder);
  ASSERT_TRUE(checkpoint.ok());
  Tensor other = Tensor::zeros(*device, DType::f32, {4, 3});
  EXPECT_THAT(checkpoint->read("model/x", other).error().message(), HasSubstr("there is no tensor \"model/x\""));
  EXPECT_THAT(checkpoint->read("model/blocks.0.w", other).error().message(),
              HasSubstr("is f32 [3, 4], wanted f32 [4, 3]"));
  Tensor half = Tensor::zeros(*device, DType::bf16, {3, 4});
  EXPECT_FALSE(checkpoint->read("model/blocks.0.w", half).ok());
}

TEST_F(CheckpointTest, AMissingOrShortFileIsNamed) {
  const std::string folder = save(1, two_tensors());
  std::ofstream(folder + "/shard-00000.h5", std::ios::app) << "x";
  EXPECT_THAT(Checkpoint::open(folder).error().message(), HasSubstr("shard-00000.h5 has "));
  ASSERT_TRUE(files.remove(folder + "/shard-00000.h5").ok());
  EXPECT_THAT(Checkpoint::open(folder).error().message(), HasSubstr("shard-00000.h5 is missing"));
  ASSERT_TRUE(files.remove(folder + "/manifest.json").ok());
  EXPECT_THAT(Checkpoint::open(folder).error().message(), HasSubstr("is not a checkpoint"));
}

TEST_F(CheckpointTest, TheNewestThatOpensIsTaken) {
  CheckpointStore store(files, root);
  const auto none = store.newest([](const Error&) { FAIL(); });
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  for (int64_t step : {2, 10, 9}) save(step, two_tensors());
  ASSERT_TRUE(files.remove(root + "/step-00000010/shard-00000.h5").ok());
  std::vector<std::string> complaints;
  const auto newest = store.newest([&](const Error& error) { complaints.push_back(error.message()); });
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ((*newest)->manifest().step, 9);
  EXPECT_THAT(complaints, ElementsAre(HasSubstr("step-00000010")));
  for (const char* step : {"02", "09"}) {
    ASSERT_TRUE(files.remove(root + "/step-000000" + step + "/manifest.json").ok());
  }
  const auto damaged = store.newest([](const Error&) {});
  ASSERT_FALSE(damaged.ok());
  EXPECT_EQ(damaged.error().kind(), ErrorKind::damaged);
}

TEST_F(CheckpointTest, AReplayedStepKeepsAWholeCheckpointAndReplacesADamagedOne) {
  const auto tensors = two_tensors();
  const std::string folder = save(7, tensors);
  ASSERT_TRUE(write_file_atomically(files, folder + "/mark", "").ok());
  EXPECT_EQ(save(7, tensors, 1), folder);
  EXPECT_TRUE(exists(folder + "/mark"));  // not written again
  const auto checkpoint = Checkpoint::open(folder);
  ASSERT_TRUE(checkpoint.ok());
  flip(folder + "/shard-00000.h5", checkpoint->manifest().tensors[1].offset);
  EXPECT_EQ(save(7, tensors, 1), folder);
  EXPECT_FALSE(exists(folder + "/mark"));
  expect_holds(folder, tensors);
  ASSERT_TRUE(files.remove(folder + "/manifest.json").ok());
  save(7, tensors, 1);
  expect_holds(folder, tensors);
}

TEST_F(CheckpointTest, StepsAreListedByTheirNumberNewestFirst) {
  CheckpointStore store(files, root);
  for (int64_t step : {7, 99'999'999, 100'000'000, 1'000'000'000}) save(step, two_tensors());
  EXPECT_THAT(store.list(), ElementsAre(root + "/step-1000000000", root + "/step-100000000", root + "/step-99999999",
                                        root + "/step-00000007"));
}

TEST_F(CheckpointTest, ACopyUnderALongerNameIsNoneOfIts) {
  CheckpointStore store(files, root);
  for (int64_t step : {5, 15, 20}) save(step, two_tensors());
  for (const char* name : {"step-00000015-backup", "step-", "step-00000015.old", "step--0000015", "steps-00000015"})
    std::filesystem::copy(root + "/step-00000015", root + "/" + name, std::filesystem::copy_options::recursive);
  EXPECT_EQ((*store.newest([](const Error&) { FAIL(); }))->manifest().step, 20);
  EXPECT_EQ(open_checkpoint(root + "/step-00000015-backup", [](const Error&) { FAIL(); })->manifest().step, 15);
  ASSERT_TRUE(store.prune(1).ok());
  EXPECT_THAT(names(), ElementsAre("step-", "step--0000015", "step-00000015-backup", "step-00000015.old",
                                   "step-00000020", "steps-00000015"));
}

TEST_F(CheckpointTest, WhatCannotBeReadIsNotCalledDamaged) {
  const std::string folder = save(1, two_tensors());
  ASSERT_TRUE(files.rename(folder + "/manifest.json", folder + "/was.json").ok());
  ASSERT_EQ(::symlink("manifest.json", (folder + "/manifest.json").c_str()), 0);  // a loop: no right, no file, no data
  EXPECT_EQ(Checkpoint::open(folder).error().kind(), ErrorKind::failed);
  std::vector<std::string> complaints;
  const auto newest = CheckpointStore(files, root).newest([&](const Error& e) { complaints.push_back(e.message()); });
  ASSERT_FALSE(newest.ok());
  EXPECT_EQ(newest.error().kind(), ErrorKind::failed);
  EXPECT_TRUE(complaints.empty());
}

TEST_F(CheckpointTest, WhatIsSetAsideIsNeitherLoadedNorCounted) {
  CheckpointStore store(files, root);
  for (int64_t step : {1, 2, 3}) save(step, two_tensors());
  for (int times = 0; times < 2; ++times) {  // a second one of that name takes the place of the first
    save(3, two_tensors());
    ASSERT_TRUE(store.set_aside(root + "/step-00000003").ok());
  }
  EXPECT_EQ((*store.newest([](const Error&) { FAIL(); }))->manifest().step, 2);
  ASSERT_TRUE(store.prune(1).ok());
  EXPECT_THAT(names(), ElementsAre("damaged-step-00000003", "step-00000002"));
}

TEST_F(CheckpointTest, PruneKeepsTheNewestWholeOnesAndRemovesLeftovers) {
  CheckpointStore store(files, root);
  EXPECT_TRUE(store.prune(1).ok());
  for (int64_t step : {1, 2, 3, 4}) save(step, two_tensors());
  ASSERT_TRUE(files.create_directory(root + "/.tmp-step-00000005-g0").ok());
  ASSERT_TRUE(write_file_atomically(files, root + "/.tmp-step-00000005-g0/shard-00000.h5", "x").ok());
  ASSERT_TRUE(files.create_directory(root + "/mine").ok());
  ASSERT_TRUE(files.remove(root + "/step-00000003/manifest.json").ok());
  ASSERT_TRUE(store.prune(0).ok());
  EXPECT_THAT(names(), ElementsAre("mine", "step-00000001", "step-00000002", "step-00000003", "step-00000004"));
  ASSERT_TRUE(store.prune(2).ok());  // the damaged one between them does not count
  EXPECT_THAT(names(), ElementsAre("mine", "step-00000002", "step-00000003", "step-00000004"));
  ASSERT_TRUE(store.prune(1).ok());
  EXPECT_THAT(names(), ElementsAre("mine", "step-00000004"));
  ASSERT_TRUE(files.remove(root + "/step-00000004/manifest.json").ok());
  save(2, two_tensors());
  ASSERT_TRUE(store.prune(1).ok());
  EXPECT_THAT(names(), testing::Contains("step-00000002"));
}

TEST_F(CheckpointTest, AFailureOfAnyOperationLeavesTheEarlierCheckpointsAndNothingHalfWritten) {
  const auto before = two_tensors(1), after = two_tensors(5);
  for (const bool for_good : {false, true}) {
    for (const bool replaces : {false, true}) {  // a damaged checkpoint of the same step is in the way
      int failures = 0;
      for (int first = 0;; ++first) {
        ASSERT_TRUE(remove_all(files, root).ok());
        save(1, before);
        if (replaces) {
          save(2, before);
          ASSERT_TRUE(files.remove(root + "/step-00000002/manifest.json").ok());
        }
        FaultyFileSystem faulty(first, for_good);
        CheckpointStore store(faulty, root);
        const auto saved = store.save(header(2), after, [&](const std::string& folder) -> Status {
          TROUPE_TRY(faulty.create_directory(folder + "/tokenizer"));
          return write_file_atomically(faulty, folder + "/tokenizer/tokenizer.toml", "kind = \"bytes\"\n");
        });
        expect_holds(root + "/step-00000001", before);
        const bool whole = Checkpoint::open(root + "/step-00000002").ok();
        if (whole) expect_holds(root + "/step-00000002", after);
        if (!saved.ok()) {
          ++failures;
          EXPECT_EQ(saved.error().message().find('\n'), std::string::npos);
          EXPECT_THAT(saved.error().message(), HasSubstr("checkpoint of step 2 was not saved: "));
          EXPECT_THAT(saved.error().message(), HasSubstr("no space left"));
          if (!for_good) EXPECT_THAT(names(), testing::Not(testing::Contains(testing::StartsWith(".tmp")))) << first;
        } else {
          EXPECT_TRUE(whole);
        }
        // What is left in the way of nobody: the next save succeeds.
        save(2, after);
        expect_holds(root + "/step-00000002", after);
        if (!faulty.has_failed()) break;
        ASSERT_FALSE(saved.ok()) << "operation " << first << " failed unseen";
      }
      EXPECT_GT(failures, 20);
    }
  }
}

TEST_F(CheckpointTest, OpensWhateverAUserNames) {
  ASSERT_TRUE(files.create_directory(root + "/checkpoints").ok());
  PosixFileSystem posix;
  CheckpointStore store(posix, root + "/checkpoints");
  ASSERT_TRUE(store.save(header(3), two_tensors()).ok());
  ASSERT_TRUE(store.save(header(4), two_tensors()).ok());
  const auto ignore = [](const Error&) {};
  EXPECT_EQ(open_checkpoint(root, ignore)->manifest().step, 4);
  EXPECT_EQ(open_checkpoint(root + "/checkpoints", ignore)->manifest().step, 4);
  EXPECT_EQ(open_checkpoint(root + "/checkpoints/step-00000003", ignore)->manifest().step, 3);
  EXPECT_EQ(open_checkpoint(root + "/nothing", ignore).error().kind(), ErrorKind::usage);
  ASSERT_TRUE(files.create_directory(root + "/step-by-step").ok());
  EXPECT_EQ(open_checkpoint(root + "/step-by-step", ignore).error().kind(), ErrorKind::usage);
  EXPECT_EQ(open_checkpoint(root + "/checkpoints/step-00000003/", ignore)->manifest().step, 3);
  ASSERT_TRUE(files.create_directory(root + "/empty").ok());
  EXPECT_EQ(open_checkpoint(root + "/empty", ignore).error().kind(), ErrorKind::usage);
  ASSERT_TRUE(files.remove(root + "/checkpoints/step-00000003/manifest.json").ok());
  EXPECT_EQ(open_checkpoint(root + "/checkpoints/step-00000003", ignore).error().kind(), ErrorKind::damaged);
}

// Reads a dataset with the HDF5 library; `memory` is what its elements become.
template <class T>
std::vector<T> hdf5_values(const std::string& path, const std::string& name, hid_t memory,
                           std::vector<hsize_t>& sizes) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
  EXPECT_GE(dataset, 0) << path << " " << name;
  const hid_t space = H5Dget_space(dataset);
  sizes.resize(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space)));
  EXPECT_GE(H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file);
  return values;
}

TEST_F(CheckpointTest, TheHdf5LibraryReadsShardAndModel) {
  std::vector<float> values;
  for (int i = 0; i < 24; ++i) values.push_back(static_cast<float>(i) * 0.5f - 3);
  const Tensor wide = Tensor::from<float>(*device, values, {2, 3, 4});
  const Tensor half = wide.to(DType::bf16).reshape({24});
  const Tensor exact = wide.to(DType::f64).reshape({4, 6});
  const std::string folder = save(1, {{"model/blocks.0.wide", wide},
                                      {"model/half", half},
                                      {"model/exact", exact},
                                      {"optimizer/first_moment/half", half.to(DType::f32)}});
  std::vector<hsize_t> sizes;
  for (const auto& [file, prefix] : {std::pair{"/shard-00000.h5", "model/"}, {"/model.h5", ""}}) {
    const std::string path = folder + file, in = prefix;
    EXPECT_EQ(hdf5_values<float>(path, in + "blocks.0.wide", H5T_NATIVE_FLOAT, sizes), values) << path;
    EXPECT_THAT(sizes, ElementsAre(2, 3, 4));
    EXPECT_EQ(hdf5_values<double>(path, in + "exact", H5T_NATIVE_DOUBLE, sizes), exact.to_host<double>());
    EXPECT_THAT(sizes, ElementsAre(4, 6));
    const auto bits = hdf5_values<uint16_t>(path, in + "half", H5T_NATIVE_UINT16, sizes);
    for (size_t i = 0; i < bits.size(); ++i) EXPECT_EQ(bits[i], half.span<kernels::bf16>()[i].bits);
  }
  EXPECT_EQ(hdf5_values<float>(folder + "/shard-00000.h5", "optimizer/first_moment/half", H5T_NATIVE_FLOAT, sizes),
            half.to_host<float>());
}

}  // namespace
}  // namespace troupe::checkpoint
