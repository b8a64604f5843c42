// Collective communication of tensors between the ranks of one group. Every rank calls the same operations
// in the same order; a backend moves the bytes. Sums are taken in the order of ranks, bf16 in f32 and rounded
// once: all ranks get the same bits, from every backend, whatever the number of hosts or the size of pieces.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor/tensor.h"

namespace troupe {
class TraceSink;
}

namespace troupe::parallel {

enum class Reduction : uint8_t { sum, maximum };

// The group is of no use any more: a rank aborted it, died, or did not come in time. The message is the first
// cause, with the operation that waited for it. Thrown by every operation of the group from then on.
class CommunicationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An operation under way. Its tensors must not be read or written before wait() returns (storage is kept until
// then). Every operation has to be waited for: dropping an unfinished one aborts the group.
class [[nodiscard]] Pending {
 public:
  class Operation;  // a backend's

  Pending() = default;  // done
  explicit Pending(std::shared_ptr<Operation> operation) : operation_(std::move(operation)) {}

  // Blocks until the operation is complete on this rank, and takes part in the work meanwhile. Nothing to do the
  // second time. Returns how long nothing could be done, because others were awaited. Throws CommunicationError.
  std::chrono::nanoseconds wait();
  // Never blocks. False also after an abort, which wait() tells.
  bool done() const;

 private:
  std::shared_ptr<Operation> operation_;
};

struct CommunicatorOptions {
  std::chrono::milliseconds deadline{300'000};  // of one wait; then the group is aborted, naming who did not come
};

struct Request;  // request.h: one rank's part of an operation, as backends see it

// One rank's end of a group. Used by one thread at a time (abort() by any), and may outlive the others' ends; an
// operation that needs an end that is gone fails at once. Operations started on a group are carried out in the
// order they were started, sends and receives beside them.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // "data", "world": stands in messages and traces.
  const std::string& name() const { return name_; }

  // Shapes, dtypes (f64, f32, bf16, i64, i32; moves also u8) and ranks are checked here, once for all backends:
  // CheckFailure with group, operation, shapes and rank. Tensors may be empty. Ranks that start different
  // operations, or the same with different sizes, are told so (CommunicationError). Integer sums wrap around;
  // the maximum of a NaN and anything is a NaN, of zeros of both signs the one of the lower rank.

  // x ← the reduction of every rank's x.
  Pending all_reduce(const kernels::Tensor& x, Reduction = Reduction::sum);
  // out [n] ← piece rank() of the reduction of every rank's in [size() · n]. May not overlap.
  Pending reduce_scatter(const kernels::Tensor& in, const kernels::Tensor& out, Reduction = Reduction::sum);
  // out [size() · n] ← every rank's in [n], in the order of ranks. in may be out's own piece.
  Pending all_gather(const kernels::Tensor& in, const kernels::Tensor& out);
  // Piece r of in goes to rank r; out's piece r came from rank r.
  Pending all_to_all(const kernels::Tensor& in, const kernels::Tensor& out);
  // The same with send_rows[r] rows (of dimension 0) for rank r and receive_rows[r] from it. Zero is normal.
  Pending all_to_all_v(const kernels::Tensor& in, std::span<const int64_t> send_rows, const kernels::Tensor& out,
                       std::span<const int64_t> receive_rows);
  // x of every rank ← root's x.
  Pending broadcast(const kernels::Tensor& x, int root);
  // Point to point, matched by (from, to, tag) in order; both tensors have the same size. 0 ≤ tag < 32768.
  Pending send(const kernels::Tensor& x, int to, int tag = 0);
  Pending receive(const kernels::Tensor& x, int from, int tag = 0);
  void barrier();

  // The ranks that give the same color ≥ 0, ordered by key, then by rank: a group of their own. Called by all;
  // blocks. A negative color joins none and gets nullptr. Groups split from one another share their fate:
  // aborting one aborts them all.
  virtual std::unique_ptr<Communicator> split(int color, int key, std::string name) = 0;

  // Wakes every waiter of the group on every rank, now and later, with CommunicationError(reason). The first
  // reason stands. Never blocks, never throws.
  virtual void abort(std::string_view reason) noexcept = 0;

  // What this rank has under way, and for whom it waits: "3.2 s in all_reduce (sum) of 10 f32 of group "data",
  // waiting for rank 1 (node n3, pid 41)"; "": nothing. Any thread.
  virtual std::string under_way() const = 0;

  // Tells every operation to `sink`, in the lane of communication, when it has been waited for; null: nobody. A span
  // lasts from the operation's start, or the end of the one before, and has the waiting for other ranks in it, gathered
  // at the beginning of wait(). Groups split off are told by themselves. The sink outlives the communicator.
  void trace_to(TraceSink* sink) { trace_ = sink; }
  // The same, where one thread waits for this group's operations and those of `beside`: their spans do not overlap.
  void trace_to(TraceSink* sink, const Communicator& beside) {
    trace_ = sink;
    traced_until_ = beside.traced_until_;
  }

 protected:
  Communicator(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

  // The request is checked. An operation is under way when this returns. Throws CommunicationError.
  virtual Pending start(Request&&) = 0;

 private:
  Pending begin(Request&&);
  Pending start_reduction(Request&&, const kernels::Tensor& in, const kernels::Tensor& out, Reduction);
  Pending start_point_to_point(Request&&, const kernels::Tensor& x, int peer, int tag);
  Pending start_all_to_all(Request&&, const kernels::Tensor& in, const kernels::Tensor& out);

  int rank_, size_;
  std::string name_;
  TraceSink* trace_ = nullptr;
  std::shared_ptr<std::chrono::nanoseconds> traced_until_ = std::make_shared<std::chrono::nanoseconds>(0);
};

// A group of one: nothing moves.
std::unique_ptr<Communicator> make_self_communicator(std::string name = "self");

// A group of `size` ranks that are threads of this process; element r belongs to rank r. Each may be used by
// one thread, and may outlive the others.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size, std::string name = "world",
                                                                     CommunicatorOptions = {});

}  // namespace troupe::parallel
