#include "checkpoint/hdf5_layout.h"

#include <hdf5.h>

#include <algorithm>

namespace troupe::checkpoint {
namespace {

using kernels::DType;

// Closes an HDF5 id.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }
  bool ok() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// HDF5 prints its error stack unless told otherwise; ours goes into the Result. And it cleans up when the process
// exits, which crashes (1.10) where a file could not be written to its end: every handle here closes itself.
class QuietErrors {
 public:
  QuietErrors() {
    H5dont_atexit();
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  ~QuietErrors() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }
  QuietErrors(const QuietErrors&) = delete;
  QuietErrors& operator=(const QuietErrors&) = delete;

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

hid_t hdf5_type(DType type) {
  switch (type) {
    case DType::f64: return H5T_IEEE_F64LE;
    case DType::f32: return H5T_IEEE_F32LE;
    case DType::bf16: return H5T_STD_U16LE;
    case DType::i64: return H5T_STD_I64LE;
    case DType::i32: return H5T_STD_I32LE;
    case DType::u8: return H5T_STD_U8LE;
  }
  return -1;
}

Error hdf5_failed(const std::string& path, std::string_view what) {
  std::string reason;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* into) -> herr_t {
        if (n == 0) *static_cast<std::string*>(into) = error->desc ? error->desc : "";
        return 0;
      },
      &reason);
  // A failed system call is told at length and in several lines; its cause stands between quotes.
  constexpr std::string_view kCause = "error message = '";
  if (const size_t cause = reason.find(kCause); cause != std::string::npos) {
    reason = reason.substr(cause + kCause.size());
    reason.resize(std::min(reason.find('\''), reason.size()));
  }
  std::ranges::replace(reason, '\n', ' ');
  return failed("{}: HDF5 could not {}: {}", path, what, reason);
}

std::vector<hsize_t> dimensions_of(const TensorRecord& record) {
  return {record.shape.sizes().begin(), record.shape.sizes().end()};
}

Status mark_dtype(hid_t dataset, DType type, const std::string& path) {
  if (type != DType::bf16) return {};
  const std::string name(kernels::name_of(type));
  const Handle text(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(text, name.size());
  const Handle scalar(H5Screate(H5S_SCALAR), H5Sclose);
  const Handle attribute(H5Acreate2(dataset, "dtype", text, scalar, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.ok() || H5Awrite(attribute, text, name.data()) < 0) return hdf5_failed(path, "write an attribute");
  return {};
}

}  // namespace

Status create_shard(const std::string& path, std::vector<TensorRecord*> records) {
  const QuietErrors quiet;
  const Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!file.ok()) return hdf5_failed(path, "create the file");
  const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_layout(creation, H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  for (TensorRecord* record : records) {
    const std::vector<hsize_t> sizes = dimensions_of(*record);
    const Handle space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose);
    const Handle dataset(
        H5Dcreate2(file, record->name.c_str(), hdf5_type(record->dtype), space, links, creation, H5P_DEFAULT),
        H5Dclose);
    if (!dataset.ok()) return hdf5_failed(path, fmt::format("create \"{}\"", record->name));
    TROUPE_TRY(mark_dtype(dataset, record->dtype, path));
    const haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF) return hdf5_failed(path, fmt::format("allocate \"{}\"", record->name));
    record->offset = static_cast<int64_t>(offset);
  }
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) return hdf5_failed(path, "write its structure");
  return {};
}

Status create_virtual_model(const std::string& path, const std::vector<const TensorRecord*>& records) {
  const QuietErrors quiet;
  const Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!file.ok()) return hdf5_failed(path, "create the file");
  const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  for (const TensorRecord* record : records) {
    const std::vector<hsize_t> sizes = dimensions_of(*record);
    const Handle space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose);
    const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    if (H5Pset_virtual(creation, space, record->file.c_str(), ("/" + record->name).c_str(), space) < 0) {
      return hdf5_failed(path, fmt::format("map \"{}\"", record->name));
    }
    const std::string name = record->name.substr(record->name.find('/') + 1);
    const Handle dataset(H5Dcreate2(file, name.c_str(), hdf5_type(record->dtype), space, links, creation, H5P_DEFAULT),
                         H5Dclose);
    if (!dataset.ok()) return hdf5_failed(path, fmt::format("create \"{}\"", name));
    TROUPE_TRY(mark_dtype(dataset, record->dtype, path));
  }
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0) return hdf5_failed(path, "write its structure");
  return {};
}

}  // namespace troupe::checkpoint
