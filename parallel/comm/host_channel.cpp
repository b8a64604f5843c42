#include "parallel/comm/host_channel.h"

#include <algorithm>
#include <cstring>

#include "parallel/comm/reduce.h"

namespace troupe::parallel {
namespace {

constexpr uint64_t kBuffers = 2;
constexpr uint64_t kSignatures = 4;         // a rank is at most one operation ahead of another's reading
constexpr int64_t kStageBytes = 512 << 10;  // of one buffer
constexpr int64_t kSmallBytes = 8 << 10;    // up to here every rank reduces everything: one exchange, not two
constexpr int64_t kAlign = 64;
constexpr int kStepsAtOnce = 8;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

struct HostChannel::State {
  alignas(kAlign) std::atomic<uint64_t> started;  // operations
  std::atomic<uint64_t> filled, read, taken;      // rounds
  std::atomic<uint32_t> gone;
  Signature signatures[kSignatures];
};

size_t HostChannel::bytes_for(int ranks) {
  const auto n = static_cast<size_t>(ranks);
  return n * (sizeof(State) + aligned(kSignatures * n * sizeof(int64_t)) + kBuffers * kStageBytes);
}

HostChannel::HostChannel(SharedSegment segment, int rank, std::vector<int> bells, std::shared_ptr<ProcessFamily> family,
                         std::string group_name)
    : segment_(std::move(segment)),
      rank_(rank),
      size_(static_cast<int>(bells.size())),
      bells_(std::move(bells)),
      family_(std::move(family)),
      group_name_(std::move(group_name)) {
  TROUPE_CHECK(segment_.bytes() >= bytes_for(size_), "{} bytes for {} ranks", segment_.bytes(), size_);
}

HostChannel::~HostChannel() {
  state(rank_).gone.store(1, std::memory_order_release);
  announce();
}

HostChannel::State& HostChannel::state(int rank) const { return reinterpret_cast<State*>(segment_.data())[rank]; }

int64_t* HostChannel::counts(int rank, uint64_t operation) const {
  const auto n = static_cast<size_t>(size_);
  const size_t table = aligned(kSignatures * n * sizeof(int64_t));
  std::byte* begin = segment_.data() + n * sizeof(State) + static_cast<size_t>(rank) * table;
  return reinterpret_cast<int64_t*>(begin) + (operation % kSignatures) * n;
}

std::byte* HostChannel::stage(int rank, uint64_t round) const {
  const auto n = static_cast<size_t>(size_);
  const size_t table = aligned(kSignatures * n * sizeof(int64_t));
  return segment_.data() + n * (sizeof(State) + table) +
         (static_cast<size_t>(rank) * kBuffers + round % kBuffers) * static_cast<size_t>(kStageBytes);
}

void HostChannel::announce() const {
  ProcessFamily::before_ringing();
  for (int r = 0; r < size_; ++r) {
    if (r != rank_) family_->ring(bells_[static_cast<size_t>(r)]);
  }
}

class HostOperation final : public ProcessOperation {
 public:
  HostOperation(HostChannel& channel, Request&& r)
      : ProcessOperation(std::move(r)), channel_(channel), number_(channel.operations_++) {}

  bool advance() override {
    if (!begun_) begin();
    if (!met_) met_ = meet();
    bool moved = false;
    for (int step = 0; step < kStepsAtOnce && planned_ && !complete; ++step) {
      if (met_ && read_ < filled_ && everybody(&HostChannel::State::filled, read_ + 1) &&
          nobody_needs(&HostChannel::State::taken, read_)) {
        read_round(static_cast<int64_t>(read_));
        publish(&HostChannel::State::read, ++read_);
        if (!takes_) publish(&HostChannel::State::taken, taken_ = read_);
      } else if (filled_ < rounds_ &&
                 nobody_needs(filled_ < kBuffers ? &HostChannel::State::taken  // the last operation's
                                                 : &HostChannel::State::read,
                              filled_)) {
        fill_round(static_cast<int64_t>(filled_));
        publish(&HostChannel::State::filled, ++filled_);
      } else if (takes_ && taken_ < read_ && everybody(&HostChannel::State::read, taken_ + 1)) {
        take_round(static_cast<int64_t>(taken_));
        publish(&HostChannel::State::taken, ++taken_);
      } else if (met_ && taken_ == rounds_) {
        channel_.rounds_ += rounds_;
        complete = true;
      } else {
        break;
      }
      moved = true;
    }
    if (moved) channel_.announce();
    return moved;
  }

  std::vector<int> absent() const override {
    std::vector<int> ranks;
    for (int r = 0; r < n(); ++r) {
      HostChannel::State& theirs = channel_.state(r);
      const bool here = theirs.started.load(std::memory_order_acquire) > number_;
      const bool along = met_ && theirs.read.load(std::memory_order_acquire) >= channel_.rounds_ + read_ &&
                         theirs.filled.load(std::memory_order_acquire) >= channel_.rounds_ + filled_;
      if (r != me() && !(met_ ? along : here)) ranks.push_back(r);
    }
    return ranks;
  }

  bool release() override { return true; }

 private:
  using Counter = std::atomic<uint64_t> HostChannel::State::*;

  int n() const { return channel_.size_; }
  int me() const { return channel_.rank_; }
  int64_t element() const { return kernels::size_of(request.signature.dtype); }

  bool everybody(Counter counter, uint64_t rounds) const {
    for (int r = 0; r < n(); ++r) {
      if ((channel_.state(r).*counter).load(std::memory_order_acquire) < channel_.rounds_ + rounds) return false;
    }
    return true;
  }

  // The buffer of this round is free: the round that used it before is over, as `counter` tells.
  bool nobody_needs(Counter counter, uint64_t round) const {
    return channel_.rounds_ + round < kBuffers || everybody(counter, round + 1 - kBuffers);
  }

  void publish(Counter counter, uint64_t rounds) {
    (channel_.state(me()).*counter).store(channel_.rounds_ + rounds, std::memory_order_release);
  }

  // Says what this rank is about to do.
  void begin() {
    begun_ = true;
    HostChannel::State& mine = channel_.state(me());
    mine.signatures[number_ % kSignatures] = request.signature;
    planned_ = request.signature.kind != OperationKind::all_to_all;
    if (planned_) {
      plan();
    } else {  // how many rounds depends on what all give
      int64_t* counts = channel_.counts(me(), number_);
      for (size_t r = 0; r < static_cast<size_t>(n()); ++r)
        counts[r] = request.send_offsets[r + 1] - request.send_offsets[r];
    }
    mine.started.store(number_ + 1, std::memory_order_release);
    channel_.announce();
  }

  // True once everybody has begun the same.
  bool meet() {
    for (int r = 0; r < n(); ++r) {
      HostChannel::State& theirs = channel_.state(r);
      const bool gone = theirs.gone.load(std::memory_order_acquire);
      if (theirs.started.load(std::memory_order_acquire) <= number_) {
        if (gone) problem = rank_left(fmt::format("rank {}", r), channel_.group_name_, request.signature);
        return false;
      }
      const Signature& signature = theirs.signatures[number_ % kSignatures];
      if (signature != request.signature) {
        problem = mismatch(channel_.group_name_, std::min(r, me()), r < me() ? signature : request.signature,
                           std::max(r, me()), r < me() ? request.signature : signature);
        return false;
      }
    }
    if (!planned_) plan();
    planned_ = problem.empty();
    return planned_;
  }

  // How many rounds, and of how much.
  void plan() {
    const Signature& s = request.signature;
    const int64_t segment = kStageBytes / n() / kAlign * kAlign;
    const auto rounds = [](int64_t whole, int64_t part) { return static_cast<uint64_t>((whole + part - 1) / part); };
    switch (s.kind) {
      case OperationKind::all_reduce:
        small_ = request.bytes(s.elements) <= kSmallBytes;
        takes_ = !small_;
        per_round_ = small_ ? std::max<int64_t>(s.elements, 1) : n() * (segment / element() - kCut);
        rounds_ = rounds(s.elements, per_round_);
        break;
      case OperationKind::reduce_scatter:
        per_round_ = segment / element();
        rounds_ = rounds(s.elements, per_round_);
        break;
      case OperationKind::all_to_all: {
        per_round_ = segment / element();
        for (int from = 0; from < n(); ++from) {
          const int64_t* counts = channel_.counts(from, number_);
          for (int to = 0; to < n(); ++to) rounds_ = std::max(rounds_, rounds(counts[to], per_round_));
          const auto f = static_cast<size_t>(from);
          const int64_t takes = request.receive_offsets[f + 1] - request.receive_offsets[f];
          if (counts[me()] != takes) problem = pair_differs(channel_.group_name_, s, from, counts[me()], me(), takes);
        }
        break;
      }
      case OperationKind::all_gather:
      case OperationKind::broadcast:
      case OperationKind::split:
        per_round_ = kStageBytes / element();
        rounds_ = rounds(s.elements, per_round_);
        break;
      default: break;  // a barrier is over when all have met
    }
    segment_ = segment;
  }

  // The elements of a round, of one rank's piece.
  int64_t begin_of(int64_t round) const { return round * per_round_; }
  int64_t count_of(int64_t round, int64_t of) const { return std::clamp<int64_t>(of - begin_of(round), 0, per_round_); }
  // all_reduce: where rank r's share of a round's `count` elements begins.
  int64_t share(int r, int64_t count) const { return r == n() ? count : count * r / n() / kCut * kCut; }

  std::byte* segment(int owner, int64_t round, int which) const {
    return channel_.stage(owner, channel_.rounds_ + static_cast<uint64_t>(round)) + which * segment_;
  }
  static void copy(std::byte* to, const std::byte* from, int64_t bytes) {
    if (bytes > 0 && to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  static void copy_to_stage(std::byte* to, const std::byte* from, int64_t bytes) {
    if (bytes > kSmallBytes) {  // twice as fast between two cores; a small one is read before it has left the cache
      copy_past_cache(to, from, bytes);
    } else {
      copy(to, from, bytes);
    }
  }
  const std::byte* in(int64_t elements) const { return request.in + elements * element(); }
  std::byte* out(int64_t elements) const { return request.out + elements * element(); }

  void fill_round(int64_t round) {
    const Signature& s = request.signature;
    const int64_t begin = begin_of(round), count = count_of(round, s.elements);
    switch (s.kind) {
      case OperationKind::all_reduce:
        if (small_) return copy_to_stage(segment(me(), round, 0), in(0), count * element());
        for (int r = 0; r < n(); ++r) {
          const int64_t first = share(r, count), last = share(r + 1, count);
          if (r != me()) copy_to_stage(segment(me(), round, r), in(begin + first), (last - first) * element());
        }
        return;
      case OperationKind::reduce_scatter:
        for (int r = 0; r < n(); ++r) {
          if (r != me()) copy_to_stage(segment(me(), round, r), in(r * s.elements + begin), count * element());
        }
        return;
      case OperationKind::all_to_all:
        for (int r = 0; r < n(); ++r) {
          const auto i = static_cast<size_t>(r);
          const int64_t here = count_of(round, request.send_offsets[i + 1] - request.send_offsets[i]);
          if (r != me()) copy_to_stage(segment(me(), round, r), in(request.send_offsets[i] + begin), here * element());
        }
        return;
      case OperationKind::broadcast:
        if (me() != s.root) return;
        [[fallthrough]];
      default: return copy_to_stage(segment(me(), round, 0), in(begin), count * element());
    }
  }

  void read_round(int64_t round) {
    const Signature& s = request.signature;
    const int64_t begin = begin_of(round), count = count_of(round, s.elements);
    switch (s.kind) {
      case OperationKind::all_reduce:
        if (small_) return reduce(round, 0, in(0), {out(0)}, count);
        {
          const int64_t first = share(me(), count), size = share(me() + 1, count) - first;
          reduce(round, me(), in(begin + first), {out(begin + first)}, size);
          return copy_to_stage(segment(me(), round, me()), out(begin + first), size * element());
        }
      case OperationKind::reduce_scatter:
        return reduce(round, me(), in(me() * s.elements + begin), {out(begin)}, count);
      case OperationKind::all_to_all:
        for (int r = 0; r < n(); ++r) {
          const auto i = static_cast<size_t>(r);
          const int64_t here = count_of(round, request.receive_offsets[i + 1] - request.receive_offsets[i]);
          copy(out(request.receive_offsets[i] + begin),
               r == me() ? in(request.send_offsets[i] + begin) : segment(r, round, me()), here * element());
        }
        return;
      case OperationKind::broadcast:
        if (me() != s.root) copy(out(begin), segment(s.root, round, 0), count * element());
        return;
      default:
        for (int r = 0; r < n(); ++r) {
          copy(out(r * s.elements + begin), r == me() ? in(begin) : segment(r, round, 0), count * element());
        }
    }
  }

  void take_round(int64_t round) {
    const int64_t begin = begin_of(round), count = count_of(round, request.signature.elements);
    for (int r = 0; r < n(); ++r) {
      const int64_t first = share(r, count), last = share(r + 1, count);
      if (r != me()) copy(out(begin + first), segment(r, round, r), (last - first) * element());
    }
  }

  void reduce(int64_t round, int which, const std::byte* mine, std::vector<std::byte*> outputs, int64_t count) {
    std::vector<const std::byte*> inputs(static_cast<size_t>(n()));
    for (int r = 0; r < n(); ++r) inputs[static_cast<size_t>(r)] = r == me() ? mine : segment(r, round, which);
    reduce_in_order(request.signature.dtype, request.signature.reduction, inputs, outputs, count);
  }

  HostChannel& channel_;
  const uint64_t number_;
  bool begun_ = false, met_ = false, planned_ = false;
  bool small_ = false;  // all_reduce: everybody reduces everything
  bool takes_ = false;  // there is a third phase
  int64_t per_round_ = 1, segment_ = 0;
  uint64_t rounds_ = 0, filled_ = 0, read_ = 0, taken_ = 0;
};

std::unique_ptr<ProcessOperation> HostChannel::make_operation(Request&& request) {
  return std::make_unique<HostOperation>(*this, std::move(request));
}

}  // namespace troupe::parallel
