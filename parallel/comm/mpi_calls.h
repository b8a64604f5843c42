// The few MPI functions that the mpi backend stands on, as a table of plain functions. The table is filled in by a
// small library of its own (mpi_library.cpp) that is loaded when a session is opened: the program itself neither
// links MPI nor pays for its start, and runs where there is none. No MPI header is needed to include this.
#pragma once
#include <cstddef>
#include <cstdint>

namespace troupe::parallel {

// Room for one MPI_Request of any implementation (a pointer or an int).
using MpiRequest = uint64_t;

// Each returns nullptr, or MPI's message about what went wrong. Ranks are those of MPI_COMM_WORLD.
struct MpiCalls {
  static constexpr int kVersion = 1;
  int version;

  // MPI_Init_thread with MPI_THREAD_SERIALIZED: calls come from several threads, one at a time.
  const char* (*init)(int* rank, int* size, int* tag_limit);
  const char* (*finalize)();
  // The lowest rank of those that share memory with this one.
  const char* (*host_leader)(int* leader);
  const char* (*all_gather)(const void* in, void* out, int bytes);  // blocks
  const char* (*isend)(const void* data, int bytes, int to, int tag, MpiRequest* request);
  const char* (*irecv)(void* data, int bytes, int from, int tag, MpiRequest* request);
  const char* (*irecv_from_any)(void* data, int bytes, int tag, MpiRequest* request);
  const char* (*test)(MpiRequest* request, bool* done);  // done: the request is spent
  const char* (*cancel)(MpiRequest* request);
  // MPI's own sum of f32: what ours is measured beside.
  const char* (*all_reduce_f32)(const float* in, float* out, int count);
};

// The library's only symbol.
extern "C" const MpiCalls* troupe_mpi_calls();
constexpr const char* kMpiCallsSymbol = "troupe_mpi_calls";

}  // namespace troupe::parallel
