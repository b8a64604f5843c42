#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "checkpoint/hdf5_layout.h"

namespace troupe::checkpoint {
namespace {

constexpr std::string_view kManifest = "manifest.json";
constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kTemporaryPrefix = ".tmp-";
constexpr std::string_view kDamagedPrefix = "damaged-";

std::span<const std::byte> bytes_of(const kernels::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.raw()), static_cast<size_t>(tensor.bytes())};
}

std::vector<uint64_t> checksums_of(std::span<const std::byte> bytes, ThreadPool& threads) {
  std::vector<uint64_t> sums((bytes.size() + kChunkBytes - 1) / kChunkBytes);
  threads.parallel_for(static_cast<int64_t>(sums.size()), [&](int64_t i) {
    const size_t begin = static_cast<size_t>(i * kChunkBytes);
    sums[static_cast<size_t>(i)] =
        checksum_of(bytes.data() + begin, std::min<size_t>(kChunkBytes, bytes.size() - begin));
  });
  return sums;
}

// Copies an HDF5 skeleton to its place, with the tensors' bytes where the skeleton leaves room for them:
// every byte that must survive a crash goes through `files`.
Status write_shard(FileSystem& files, const std::string& path, const std::string& skeleton_path,
                   std::span<const TensorRecord> records, std::span<const NamedTensor> tensors) {
  const MappedFile skeleton = TROUPE_TRY(MappedFile::open(skeleton_path));
  std::vector<size_t> order(records.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](size_t i) { return records[i].offset; });
  const std::unique_ptr<WritableFile> file = TROUPE_TRY(files.create(path));
  size_t at = 0;
  for (size_t i : order) {
    const size_t begin = static_cast<size_t>(records[i].offset);
    TROUPE_CHECK(at <= begin && begin <= skeleton.bytes().size(), "{}: \"{}\" at byte {} of a skeleton of {}", path,
                 records[i].name, begin, skeleton.bytes().size());
    TROUPE_TRY(file->write(skeleton.bytes().subspan(at, begin - at)));
    TROUPE_TRY(file->write(bytes_of(tensors[i].tensor)));
    at = begin + static_cast<size_t>(records[i].bytes);
  }
  if (at < skeleton.bytes().size()) TROUPE_TRY(file->write(skeleton.bytes().subspan(at)));
  TROUPE_TRY(file->sync());
  return file->close();
}

Status copy_through(FileSystem& files, const std::string& from, const std::string& to) {
  const std::string contents = TROUPE_TRY(read_file(from));
  return write_file_atomically(files, to, contents);
}

// Every file below `folder`, relative to it.
Status collect_files(FileSystem& files, const std::string& folder, const std::string& below,
                     std::vector<FileRecord>& found) {
  for (const DirectoryEntry& entry : TROUPE_TRY(files.list(below.empty() ? folder : folder + "/" + below))) {
    const std::string name = below.empty() ? entry.name : below + "/" + entry.name;
    if (entry.is_directory) TROUPE_TRY(collect_files(files, folder, name, found));
    else found.push_back({name, entry.size_bytes});
  }
  return {};
}

std::string_view last_part(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  return path.substr(path.rfind('/') + 1);
}

// Not there, as opposed to: it cannot be told.
bool is_missing(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::status(path, ignored).type() == std::filesystem::file_type::not_found;
}

// "step-" and a number: what else begins so (a copy that someone made) is none of a store's.
bool is_step(std::string_view name) {
  const std::string_view number = name.substr(std::min(name.size(), kStepPrefix.size()));
  return name.starts_with(kStepPrefix) && !number.empty() &&
         number.find_first_not_of("0123456789") == std::string_view::npos;
}

// Whether `folder` needs no writing again: this generation wrote it, or an earlier one did (the step was
// replayed after a restart: the same state) and every byte of it is still right.
bool is_saved(const std::string& folder, int64_t generation, std::span<const NamedTensor> tensors) {
  const auto there = Checkpoint::open(folder);
  if (!there.ok()) return false;
  if (there->manifest().generation == generation || tensors.empty()) return true;
  return there->verify(tensors.front().tensor.device().threads()).ok();
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::string& folder) {
  const std::string path = folder + "/" + std::string(kManifest);
  if (is_missing(path)) return damaged("{} is not a checkpoint: there is no {} in it", folder, kManifest);
  const std::string text = TROUPE_TRY(read_file(path, int64_t{1} << 30));
  auto manifest = Manifest::parse(text);
  if (!manifest.ok()) return std::move(manifest).error().within(path);
  for (const FileRecord& file : manifest->files) {
    if (is_missing(folder + "/" + file.name)) return damaged("{}/{} is missing", folder, file.name);
    const int64_t size = TROUPE_TRY(file_size_bytes(folder + "/" + file.name));
    if (size != file.bytes)
      return damaged("{}/{} has {} bytes, its manifest says {}: it was cut short or changed", folder, file.name, size,
                     file.bytes);
  }
  return Checkpoint(folder, std::move(*manifest));
}

Status Checkpoint::read(const std::string& name, kernels::Tensor& into) const {
  const TensorRecord* record = manifest_.find(name);
  if (record == nullptr) return damaged("{}: there is no tensor \"{}\"", folder_, name);
  if (record->dtype != into.dtype() || record->shape != into.shape()) {
    return damaged("{}: \"{}\" is {} {}, wanted {} {}", folder_, name, kernels::name_of(record->dtype),
                   record->shape.to_string(), kernels::name_of(into.dtype()), into.shape().to_string());
  }
  const MappedFile file = TROUPE_TRY(MappedFile::open(folder_ + "/" + record->file));
  const auto bytes = TROUPE_TRY(verified_bytes(*record, file, into.device().threads()));
  into.device().copy_from_host(into.raw(), bytes.data(), bytes.size());
  return {};
}

Status Checkpoint::verify(ThreadPool& threads) const {
  for (const TensorRecord& record : manifest_.tensors) {
    const MappedFile file = TROUPE_TRY(MappedFile::open(folder_ + "/" + record.file));
    TROUPE_TRY(verified_bytes(record, file, threads));
  }
  return {};
}

Result<std::span<const std::byte>> Checkpoint::verified_bytes(const TensorRecord& record, const MappedFile& file,
                                                              ThreadPool& threads) const {
  const std::string path = folder_ + "/" + record.file;
  if (static_cast<int64_t>(file.bytes().size()) < record.offset + record.bytes)
    return damaged("{} was cut short", path);
  const auto bytes = file.bytes().subspan(static_cast<size_t>(record.offset), static_cast<size_t>(record.bytes));
  const std::vector<uint64_t> sums = checksums_of(bytes, threads);
  for (size_t i = 0; i < sums.size(); ++i) {
    if (sums[i] == record.checksums[i]) continue;
    const int64_t begin = static_cast<int64_t>(i) * kChunkBytes;
    return damaged("{}: checksum mismatch in \"{}\", bytes {}–{}", path, record.name, begin,
                   std::min(begin + kChunkBytes, record.bytes) - 1);
  }
  return bytes;
}

Result<CheckpointStore::Staged> CheckpointStore::stage(Manifest header, std::span<const NamedTensor> tensors,
                                                       const Extra& extra) {
  const std::string name = fmt::format("{}{:08}", kStepPrefix, header.step);
  const std::string temporary = fmt::format("{}/{}{}-g{}", root_, kTemporaryPrefix, name, header.generation);
  const Staged staged{header.step, header.generation, temporary, root_ + "/" + name};
  const auto write = [&]() -> Status {
    TROUPE_TRY(remove_all(files_, temporary));
    TROUPE_TRY(files_.create_directory(temporary));

    header.tensors.clear();
    for (const NamedTensor& t : tensors) {
      header.tensors.push_back({t.name, t.tensor.dtype(), t.tensor.shape(), "shard-00000.h5", 0, t.tensor.bytes(),
                                checksums_of(bytes_of(t.tensor), t.tensor.device().threads())});
    }
    std::vector<TensorRecord*> all;
    std::vector<const TensorRecord*> model;
    for (TensorRecord& record : header.tensors) {
      all.push_back(&record);
      if (record.name.starts_with("model/")) model.push_back(&record);
    }
    const std::string skeleton = temporary + "/.skeleton.h5";
    TROUPE_TRY(create_shard(skeleton, all));
    TROUPE_TRY(write_shard(files_, temporary + "/shard-00000.h5", skeleton, header.tensors, tensors));
    TROUPE_TRY(create_virtual_model(skeleton, model));
    TROUPE_TRY(copy_through(files_, skeleton, temporary + "/model.h5"));
    TROUPE_TRY(files_.remove(skeleton));
    if (extra) TROUPE_TRY(extra(temporary));

    header.files.clear();
    TROUPE_TRY(collect_files(files_, temporary, "", header.files));
    TROUPE_TRY(write_file_atomically(files_, temporary + "/" + std::string(kManifest), header.to_json()));
    return files_.sync_directory(temporary);
  };
  Status written = create_directories(files_, root_);
  if (written.ok() && is_saved(staged.folder, header.generation, tensors))
    return Staged{staged.step, staged.generation, "", staged.folder};
  if (written.ok()) written = write();
  if (written.ok()) return staged;
  (void)remove_all(files_, temporary).ok();
  return Error(written.error()).within(fmt::format("checkpoint of step {} was not saved", header.step));
}

Result<std::string> CheckpointStore::publish(const Staged& staged) {
  if (staged.temporary.empty()) return staged.folder;
  const auto rename = [&]() -> Status {
    TROUPE_TRY(remove_all(files_, staged.folder));  // one that is there is damaged
    TROUPE_TRY(files_.sync_directory(parent_directory(root_)));
    TROUPE_TRY(files_.rename(staged.temporary, staged.folder));
    return files_.sync_directory(root_);
  };
  const Status renamed = rename();
  if (renamed.ok()) return staged.folder;
  (void)remove_all(files_, staged.temporary).ok();
  return Error(renamed.error()).within(fmt::format("checkpoint of step {} was not saved", staged.step));
}

Result<std::string> CheckpointStore::save(Manifest header, std::span<const NamedTensor> tensors, const Extra& extra) {
  return publish(TROUPE_TRY(stage(std::move(header), tensors, extra)));
}

std::vector<std::string> CheckpointStore::list() const {
  std::vector<std::string> folders;
  const auto entries = files_.list(root_);
  if (!entries.ok()) return folders;
  for (const DirectoryEntry& entry : *entries) {
    if (entry.is_directory && is_step(entry.name)) folders.push_back(root_ + "/" + entry.name);
  }
  std::ranges::sort(folders, [](const std::string& a, const std::string& b) {  // a longer number is a later step
    return std::pair(a.size(), a) > std::pair(b.size(), b);
  });
  return folders;
}

Result<std::optional<Checkpoint>> CheckpointStore::newest(const std::function<void(const Error&)>& on_damaged) const {
  const std::vector<std::string> folders = list();
  for (const std::string& folder : folders) {
    auto checkpoint = Checkpoint::open(folder);
    if (checkpoint.ok()) return std::optional<Checkpoint>(std::move(*checkpoint));
    if (checkpoint.error().kind() != ErrorKind::damaged) return std::move(checkpoint).error();
    on_damaged(checkpoint.error());
  }
  if (!folders.empty()) return damaged("{}: none of its {} checkpoints is whole", root_, folders.size());
  return std::optional<Checkpoint>();
}

Status CheckpointStore::set_aside(const std::string& folder) {
  const std::string aside = fmt::format("{}/{}{}", root_, kDamagedPrefix, last_part(folder));
  TROUPE_TRY(remove_all(files_, aside));
  TROUPE_TRY(files_.rename(folder, aside));
  return files_.sync_directory(root_);
}

Status CheckpointStore::prune(int64_t keep) {
  const auto entries = files_.list(root_);
  if (!entries.ok()) return {};
  for (const DirectoryEntry& entry : *entries) {
    if (entry.name.starts_with(kTemporaryPrefix)) TROUPE_TRY(remove_all(files_, root_ + "/" + entry.name));
  }
  if (keep == 0) return {};
  int64_t whole = 0;
  for (const std::string& folder : list()) {
    if (whole < keep) {
      if (Checkpoint::open(folder).ok()) ++whole;
      continue;
    }
    TROUPE_TRY(remove_all(files_, folder));
  }
  return {};
}

Result<Checkpoint> open_checkpoint(const std::string& path, const std::function<void(const Error&)>& on_damaged) {
  if (exists(path + "/" + std::string(kManifest))) return Checkpoint::open(path);
  if (!exists(path)) return usage_error("--checkpoint {}: no such folder", path);
  PosixFileSystem files;
  for (const std::string& root : {path + "/checkpoints", path}) {
    auto newest = TROUPE_TRY(CheckpointStore(files, root).newest(on_damaged));
    if (newest) return std::move(*newest);
  }
  if (is_step(last_part(path))) return Checkpoint::open(path);
  return usage_error("--checkpoint {}: there is no checkpoint in it", path);
}

}  // namespace troupe::checkpoint
