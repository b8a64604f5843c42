// Every operation, over element types, sizes and alignments, against a scalar definition, bit for bit.
#include "tests/unit/comm/conformance.h"
#include "parallel/comm/bucket.h"

namespace troupe::parallel {
namespace {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Conformance);

std::string label(std::string_view operation, DType dtype, int64_t n, const Communicator& comm) {
  return fmt::format("{} of {} {} on rank {} of {}", operation, n, name_of(dtype), comm.rank(), comm.size());
}

TEST_P(Conformance, AllReduceAddsInTheOrderOfRanks) {
  world().run([](Communicator& comm, Device& device) {
    for_each_reducible([&]<class T>() {
      for (const int64_t n : sizes<T>(comm)) {
        for (const Reduction reduction : {Reduction::sum, Reduction::maximum}) {
          const Tensor x = unaligned(device, kernels::dtype_of<T>, n, n % 2 ? 3 : 0);
          fill<T>(x, 11, comm.rank());
          comm.all_reduce(x, reduction).wait();
          expect_bits<T>(
              x, [&](int64_t i) { return reduced<T>(reduction, 11, comm.size(), i); },
              label("all_reduce", x.dtype(), n, comm));
        }
      }
    });
  });
}

TEST_P(Conformance, ReduceScatterGivesEachRankItsPiece) {
  world().run([](Communicator& comm, Device& device) {
    for_each_reducible([&]<class T>() {
      for (const int64_t n : sizes<T>(comm)) {
        const Tensor in = unaligned(device, kernels::dtype_of<T>, n * comm.size(), 1);
        const Tensor out = unaligned(device, kernels::dtype_of<T>, n, 3);
        fill<T>(in, 12, comm.rank());
        comm.reduce_scatter(in, out).wait();
        expect_bits<T>(
            out, [&](int64_t i) { return reduced<T>(Reduction::sum, 12, comm.size(), comm.rank() * n + i); },
            label("reduce_scatter", in.dtype(), n, comm));
        expect_bits<T>(in, [&](int64_t i) { return value_of<T>(12, comm.rank(), i); }, "what was reduced");
      }
    });
  });
}

TEST_P(Conformance, AllGatherJoinsThePieces) {
  world().run([](Communicator& comm, Device& device) {
    for_each_type([&]<class T>() {
      for (const int64_t n : sizes<T>(comm)) {
        for (const bool in_place : {false, true}) {
          const Tensor out = unaligned(device, kernels::dtype_of<T>, n * comm.size(), 1);
          const Tensor in = in_place ? out.slice(comm.rank() * n, (comm.rank() + 1) * n)
                                     : unaligned(device, kernels::dtype_of<T>, n, 3);
          fill<T>(in, 13, comm.rank());
          comm.all_gather(in, out).wait();
          expect_bits<T>(
              out, [&](int64_t i) { return value_of<T>(13, i / n, i % n); }, label("all_gather", in.dtype(), n, comm));
        }
      }
    });
  });
}

TEST_P(Conformance, AllToAllTransposesThePieces) {
  world().run([](Communicator& comm, Device& device) {
    for_each_type([&]<class T>() {
      for (const int64_t n : sizes<T>(comm)) {
        const Tensor in = unaligned(device, kernels::dtype_of<T>, n * comm.size(), 3);
        const Tensor out = unaligned(device, kernels::dtype_of<T>, n * comm.size(), 1);
        fill<T>(in, 14, comm.rank());
        comm.all_to_all(in, out).wait();
        expect_bits<T>(
            out, [&](int64_t i) { return value_of<T>(14, i / n, comm.rank() * n + i % n); },
            label("all_to_all", in.dtype(), n, comm));
      }
    });
  });
}

// Rank a sends (a · 5 + b · 3 + round) mod 7 · scale rows to rank b; some send nothing at all.
TEST_P(Conformance, AllToAllOfRowsTakesAnyCounts) {
  world().run([](Communicator& comm, Device& device) {
    for (const int64_t scale : {0, 1, 1000}) {
      const auto rows = [&](int a, int b) { return a == 1 ? 0 : (a * 5 + b * 3 + scale) % 7 * scale; };
      std::vector<int64_t> send, receive;
      int64_t sends = 0, receives = 0;
      for (int r = 0; r < comm.size(); ++r) {
        sends += send.emplace_back(rows(comm.rank(), r));
        receives += receive.emplace_back(rows(r, comm.rank()));
      }
      const Tensor in = Tensor::zeros(device, DType::f32, {sends, 5, 3});
      const Tensor out = Tensor::zeros(device, DType::f32, {receives, 15});
      int64_t at = 0;
      for (int r = 0; r < comm.size(); ++r) {
        const int64_t count = send[static_cast<size_t>(r)];
        fill<float>(in.slice(at, at + count), 15 + static_cast<uint64_t>(r), comm.rank());
        at += count;
      }
      comm.all_to_all_v(in, send, out, receive).wait();
      at = 0;
      for (int r = 0; r < comm.size(); ++r) {
        const int64_t count = receive[static_cast<size_t>(r)];
        expect_bits<float>(
            out.slice(at, at + count),
            [&](int64_t i) { return value_of<float>(15 + static_cast<uint64_t>(comm.rank()), r, i); },
            fmt::format("rows from {} to {}", r, comm.rank()));
        at += count;
      }
    }
  });
}

TEST_P(Conformance, BroadcastCopiesTheRoots) {
  world().run([](Communicator& comm, Device& device) {
    for_each_type([&]<class T>() {
      for (const int64_t n : sizes<T>(comm)) {
        for (int root = 0; root < comm.size(); ++root) {
          const Tensor x = unaligned(device, kernels::dtype_of<T>, n, 1);
          fill<T>(x, 16, comm.rank());
          comm.broadcast(x, root).wait();
          expect_bits<T>(
              x, [&](int64_t i) { return value_of<T>(16, root, i); }, label("broadcast", x.dtype(), n, comm));
        }
      }
    });
  });
}

TEST_P(Conformance, SendsMeetReceivesByRankAndTagInOrder) {
  world().run([](Communicator& comm, Device& device) {
    for (const int64_t n : {0, 1, 63, 300'001}) {
      // Each to all, itself too: two of tag 7 and one of tag 0; received in another order than sent.
      std::vector<Pending> pending;
      std::vector<Tensor> kept, got;
      const auto from = [&](int r, int which) { return static_cast<uint64_t>(100 + r * 3 + which); };
      for (int r = 0; r < comm.size(); ++r) {
        for (int which = 0; which < 3; ++which) {
          kept.push_back(unaligned(device, DType::f32, n, 1));
          fill<float>(kept.back(), from(comm.rank(), which), r);
          pending.push_back(comm.send(kept.back(), r, which == 1 ? 0 : 7));
        }
      }
      const int order[] = {1, 0, 2};
      for (int r = comm.size() - 1; r >= 0; --r) {
        for (const int which : order) {
          got.push_back(unaligned(device, DType::f32, n, 3));
          pending.push_back(comm.receive(got.back(), r, which == 1 ? 0 : 7));
        }
      }
      for (size_t i = pending.size(); i-- > 0;) pending[i].wait();
      size_t next = 0;
      for (int r = comm.size() - 1; r >= 0; --r) {
        for (const int which : order) {
          expect_bits<float>(
              got[next++], [&](int64_t i) { return value_of<float>(from(r, which), comm.rank(), i); },
              fmt::format("message {} from {} to {}", which, r, comm.rank()));
        }
      }
    }
  });
}

TEST_P(Conformance, MaximumKeepsNotANumber) {
  world().run([](Communicator& comm, Device& device) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int where = 0; where < comm.size(); ++where) {
      const std::vector<float> mine(37, where == comm.rank() ? nan : static_cast<float>(comm.rank()));
      const Tensor x = Tensor::from<float>(device, mine, {37});
      comm.all_reduce(x, Reduction::maximum).wait();
      for (const float got : x.span<float>()) EXPECT_TRUE(std::isnan(got)) << where;
    }
  });
}

TEST_P(Conformance, OperationsInFlightCompleteInAnyOrderOfWaiting) {
  world().run([](Communicator& comm, Device& device) {
    constexpr int kOperations = 50;
    std::vector<Tensor> x;
    std::vector<Pending> pending;
    for (int k = 0; k < kOperations; ++k) {
      x.push_back(Tensor::zeros(device, DType::f32, {k * k * 11}));
      fill<float>(x.back(), static_cast<uint64_t>(k), comm.rank());
      pending.push_back(comm.all_reduce(x.back()));
    }
    // Every rank waits in its own order.
    for (int k = 0; k < kOperations; ++k) pending[static_cast<size_t>((k * 7 + comm.rank() * 13) % kOperations)].wait();
    for (int k = 0; k < kOperations; ++k) {
      const auto i = static_cast<size_t>(k);
      EXPECT_TRUE(pending[i].done());
      expect_bits<float>(
          x[i], [&](int64_t j) { return reduced<float>(Reduction::sum, static_cast<uint64_t>(k), comm.size(), j); },
          "in flight");
    }
  });
}

TEST_P(Conformance, BarrierHoldsUntilAllHaveCome) {
  world().run([](Communicator& comm, Device& device) {
    // Messages before a barrier have been started by all once it is passed: done() without waiting long.
    for (int round = 0; round < 200; ++round) comm.barrier();
    const Tensor x = Tensor::zeros(device, DType::i64, {1});
    Pending sum = comm.all_reduce(x);
    comm.barrier();
    EXPECT_TRUE(sum.done());
    sum.wait();
  });
}

TEST_P(Conformance, SplitsIntoRowsAndColumnsThatWorkBesideEachOther) {
  world().run([](Communicator& comm, Device& device) {
    const int columns = comm.size() > 2 ? 3 : comm.size();
    const int row = comm.rank() / columns, column = comm.rank() % columns;
    const auto across = comm.split(row, column, "row");
    const auto down = comm.split(column, -row, "column");  // in reverse order
    const auto none = comm.split(comm.rank() == 0 ? -1 : 0, 0, "others");
    EXPECT_EQ(none == nullptr, comm.rank() == 0);
    if (none) {
      EXPECT_EQ(none->rank(), comm.rank() - 1);
    }
    EXPECT_EQ(across->name(), "row");
    EXPECT_EQ(across->rank(), column);
    for (int round = 0; round < 20; ++round) {
      const int64_t n = round * 997;
      const Tensor a = Tensor::zeros(device, DType::bf16, {n}), b = Tensor::zeros(device, DType::f64, {n});
      fill<kernels::bf16>(a, 1, across->rank());
      fill<double>(b, 2, down->rank());
      // The two groups' operations are started and waited for in different orders by different ranks.
      const bool first = (comm.rank() + round) % 2 == 0;
      Pending pa, pb;
      if (first) pa = across->all_reduce(a);
      pb = down->all_reduce(b);
      if (!first) pa = across->all_reduce(a);
      if (comm.rank() % 3 == 0) pa.wait();
      pb.wait();
      pa.wait();
      expect_bits<kernels::bf16>(
          a, [&](int64_t i) { return reduced<kernels::bf16>(Reduction::sum, 1, across->size(), i); }, "row");
      expect_bits<double>(b, [&](int64_t i) { return reduced<double>(Reduction::sum, 2, down->size(), i); }, "column");
    }
    // A group of a group.
    const auto half = across->split(across->rank() % 2, 0, "half");
    const Tensor one = Tensor::from<int32_t>(device, std::vector<int32_t>{1}, {1});
    half->all_reduce(one).wait();
    EXPECT_EQ(one.data<int32_t>()[0], half->size());
    comm.barrier();
  });
}

TEST_P(Conformance, ManyTensorsAreReducedTogetherWithTheBitsOfEach) {
  world().run([](Communicator& comm, Device& device) {
    // Of three types, in an order that has each come again: empty, small, and large enough to go alone.
    std::vector<Tensor> tensors;
    for (int64_t k = 0; k < 60; ++k) {
      const int64_t n = k % 7 == 0 ? 0 : k % 11 == 0 ? 3000 + k : k * 3;
      const DType dtype = k % 3 == 0 ? DType::bf16 : k % 3 == 1 ? DType::f32 : DType::f64;
      tensors.push_back(Tensor::zeros(device, dtype, {n, 2}));
      const auto seed = static_cast<uint64_t>(k);
      if (dtype == DType::bf16) fill<kernels::bf16>(tensors.back(), seed, comm.rank());
      if (dtype == DType::f32) fill<float>(tensors.back(), seed, comm.rank());
      if (dtype == DType::f64) fill<double>(tensors.back(), seed, comm.rank());
    }
    all_reduce_together(comm, tensors, Reduction::sum, {.piece_bytes = 2000, .large_bytes = 10'000});
    const auto expect = [&]<class T>(uint64_t seed) {
      expect_bits<T>(
          tensors[seed], [&](int64_t i) { return reduced<T>(Reduction::sum, seed, comm.size(), i); }, "together");
    };
    for (uint64_t k = 0; k < tensors.size(); ++k) {
      if (k % 3 == 0) expect.template operator()<kernels::bf16>(k);
      if (k % 3 == 1) expect.template operator()<float>(k);
      if (k % 3 == 2) expect.template operator()<double>(k);
    }
    all_reduce_together(comm, {});
  });
}

// Sequences of operations from a seed, several in flight, each checked against the definition.
TEST_P(Conformance, RandomSequencesMatchTheModel) {
  world().run([](Communicator& comm, Device& device) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      std::vector<Pending> pending;
      std::vector<std::function<void()>> checks;
      const int size = comm.size();
      for (int step = 0; step < 30; ++step) {
        const uint64_t dice = hash(seed, -1, step);  // the same on all ranks
        const uint64_t own = hash(seed, comm.rank(), -step - 1);
        const uint64_t salt = seed * 1000 + static_cast<uint64_t>(step);
        const int64_t n = static_cast<int64_t>((dice >> 8) % 16 == 0 ? (dice >> 16) % 200'000 : (dice >> 16) % 300);
        const int64_t skip = static_cast<int64_t>(own % 5);
        const std::string what = fmt::format("seed {}, step {}", seed, step);
        switch (dice % 6) {
          case 0: {
            const Tensor x = unaligned(device, DType::f32, n, skip);
            fill<float>(x, salt, comm.rank());
            pending.push_back(comm.all_reduce(x));
            checks.push_back([=] {
              expect_bits<float>(x, [&](int64_t i) { return reduced<float>(Reduction::sum, salt, size, i); }, what);
            });
            break;
          }
          case 1: {
            const Tensor in = unaligned(device, DType::bf16, n * size, skip),
                         out = unaligned(device, DType::bf16, n, 1);
            fill<kernels::bf16>(in, salt, comm.rank());
            pending.push_back(comm.reduce_scatter(in, out));
            checks.push_back([=, first = comm.rank() * n] {
              expect_bits<kernels::bf16>(
                  out, [&](int64_t i) { return reduced<kernels::bf16>(Reduction::sum, salt, size, first + i); }, what);
            });
            break;
          }
          case 2: {
            const Tensor in = unaligned(device, DType::u8, n, skip), out = unaligned(device, DType::u8, n * size, skip);
            fill<uint8_t>(in, salt, comm.rank());
            pending.push_back(comm.all_gather(in, out));
            checks.push_back([=] {
              expect_bits<uint8_t>(out, [&](int64_t i) { return value_of<uint8_t>(salt, i / n, i % n); }, what);
            });
            break;
          }
          case 3: {
            const int root = static_cast<int>((dice >> 32) % static_cast<uint64_t>(size));
            const Tensor x = unaligned(device, DType::i64, n, skip);
            fill<int64_t>(x, salt, comm.rank());
            pending.push_back(comm.broadcast(x, root));
            checks.push_back(
                [=] { expect_bits<int64_t>(x, [&](int64_t i) { return value_of<int64_t>(salt, root, i); }, what); });
            break;
          }
          case 4: {
            const int next = (comm.rank() + 1) % size, before = (comm.rank() + size - 1) % size;
            const Tensor x = unaligned(device, DType::f64, n, skip), y = unaligned(device, DType::f64, n, 0);
            fill<double>(x, salt, comm.rank());
            pending.push_back(comm.send(x, next, step));
            pending.push_back(comm.receive(y, before, step));
            checks.push_back(
                [=] { expect_bits<double>(y, [&](int64_t i) { return value_of<double>(salt, before, i); }, what); });
            break;
          }
          default: {
            const Tensor in = unaligned(device, DType::i32, n * size, skip),
                         out = unaligned(device, DType::i32, n * size, 1);
            fill<int32_t>(in, salt, comm.rank());
            pending.push_back(comm.all_to_all(in, out));
            checks.push_back([=, first = comm.rank() * n] {
              expect_bits<int32_t>(out, [&](int64_t i) { return value_of<int32_t>(salt, i / n, first + i % n); }, what);
            });
          }
        }
        if (own % 4 == 0) {  // wait for one of them, a different one on every rank
          pending[(own >> 8) % pending.size()].wait();
        }
      }
      for (Pending& p : pending) p.wait();
      for (const auto& check : checks) check();
    }
  });
}

}  // namespace
}  // namespace troupe::parallel
