// libtroupe_mpi.so: MPI behind the table of mpi_calls.h, and nothing of ours beside it.
#include <mpi.h>

#include <cstring>

#include "parallel/comm/mpi_calls.h"

namespace troupe::parallel {
namespace {

// One MPI per process, whoever loads it: the communicator of our own messages and the text of the last error.
MPI_Comm group = MPI_COMM_NULL;
thread_local char message[MPI_MAX_ERROR_STRING + 1];

const char* checked(int code) {
  if (code == MPI_SUCCESS) return nullptr;
  int length = 0;
  if (MPI_Error_string(code, message, &length) != MPI_SUCCESS) return "unknown MPI error";
  message[length] = 0;
  return message;
}

MPI_Request* as_request(MpiRequest* request) {
  static_assert(sizeof(MPI_Request) <= sizeof(MpiRequest));
  return reinterpret_cast<MPI_Request*>(request);
}

const char* init(int* rank, int* size, int* tag_limit) {
  int given = 0;
  int there = 0;
  MPI_Initialized(&there);
  if (!there) {
    if (const char* error = checked(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &given))) return error;
  } else {
    MPI_Query_thread(&given);
  }
  if (given < MPI_THREAD_SERIALIZED) return "this MPI cannot be called from several threads";
  if (const char* error = checked(MPI_Comm_dup(MPI_COMM_WORLD, &group))) return error;
  MPI_Comm_set_errhandler(group, MPI_ERRORS_RETURN);
  MPI_Comm_rank(group, rank);
  MPI_Comm_size(group, size);
  int* limit = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
  *tag_limit = found ? *limit : 32767;
  return nullptr;
}

const char* finalize() {
  MPI_Comm_free(&group);
  return checked(MPI_Finalize());
}

const char* host_leader(int* leader) {
  MPI_Comm host = MPI_COMM_NULL;
  int rank = 0;
  MPI_Comm_rank(group, &rank);
  if (const char* error = checked(MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host))) {
    return error;
  }
  const char* error = checked(MPI_Allreduce(&rank, leader, 1, MPI_INT, MPI_MIN, host));
  MPI_Comm_free(&host);
  return error;
}

const char* all_gather(const void* in, void* out, int bytes) {
  return checked(MPI_Allgather(in, bytes, MPI_BYTE, out, bytes, MPI_BYTE, group));
}

const char* isend(const void* data, int bytes, int to, int tag, MpiRequest* request) {
  return checked(MPI_Isend(data, bytes, MPI_BYTE, to, tag, group, as_request(request)));
}

const char* irecv(void* data, int bytes, int from, int tag, MpiRequest* request) {
  return checked(MPI_Irecv(data, bytes, MPI_BYTE, from, tag, group, as_request(request)));
}

const char* irecv_from_any(void* data, int bytes, int tag, MpiRequest* request) {
  return checked(MPI_Irecv(data, bytes, MPI_BYTE, MPI_ANY_SOURCE, tag, group, as_request(request)));
}

const char* test(MpiRequest* request, bool* done) {
  int flag = 0;
  const char* error = checked(MPI_Test(as_request(request), &flag, MPI_STATUS_IGNORE));
  *done = flag != 0;
  return error;
}

const char* cancel(MpiRequest* request) { return checked(MPI_Cancel(as_request(request))); }

const char* all_reduce_f32(const float* in, float* out, int count) {
  return checked(MPI_Allreduce(in, out, count, MPI_FLOAT, MPI_SUM, group));
}

}  // namespace

extern "C" const MpiCalls* troupe_mpi_calls() {
  static const MpiCalls calls{MpiCalls::kVersion, init, finalize, host_leader,   all_gather, isend, irecv,
                              irecv_from_any,     test, cancel,   all_reduce_f32};
  return &calls;
}

}  // namespace troupe::parallel
