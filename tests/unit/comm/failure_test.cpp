// How groups end: aborts at every kind of wait, deadlines, ranks that left, operations that do not match, bad
// arguments. In every world an error comes in time and names its cause.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Failures);

std::string check_error_of(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const CheckFailure& failure) {
    return failure.what();
  }
  return "";
}

TEST_P(Conformance, BadArgumentsAreNamedAndDoNoHarm) {
  world().run([](Communicator& comm, Device& device) {
    const int n = comm.size();
    const Tensor x = Tensor::zeros(device, DType::f32, {n * 3, 2}), y = Tensor::zeros(device, DType::f32, {7});
    const Tensor d = Tensor::zeros(device, DType::f64, {n * 3, 2}), b = Tensor::zeros(device, DType::u8, {n});
    const auto where = fmt::format("group \"world\", rank {}: ", comm.rank());
    const auto expect = [&](const std::function<void()>& operation, const std::string& what) {
      EXPECT_THAT(check_error_of(operation), HasSubstr(where + what));
    };
    expect([&] { comm.all_reduce(Tensor()).wait(); }, "all_reduce of an undefined tensor");
    expect([&] { comm.all_reduce(b).wait(); }, fmt::format("all_reduce of u8 [{}]: u8 is only moved", n));
    expect([&] { comm.reduce_scatter(x, y).wait(); }, fmt::format("reduce_scatter of f32 [{}, 2] into f32 [7]", n * 3));
    expect([&] { comm.reduce_scatter(x, x.slice(0, 3)).wait(); }, "reduce_scatter of");
    expect([&] { comm.all_gather(x.slice(0, 3), d).wait(); }, "all_gather of f32 [3, 2] into f64");
    if (n > 1) expect([&] { comm.all_gather(x.slice(1, 4), x).wait(); }, "all_gather of f32 [3, 2] into");
    expect([&] { comm.all_to_all(x, d).wait(); }, "all_to_all of");
    const std::vector<int64_t> rows(static_cast<size_t>(n), 3), few(static_cast<size_t>(n), 2);
    const Tensor z = Tensor::zeros(device, DType::f32, {n * 3, 2});
    expect([&] { comm.all_to_all_v(x, few, z, rows).wait(); }, "all_to_all_v of");
    expect([&] { comm.all_to_all_v(x, rows, z, few).wait(); }, "all_to_all_v into");
    expect([&] { comm.broadcast(x, n).wait(); }, "broadcast of");
    expect([&] { comm.send(x, -1).wait(); }, "send of");
    expect([&] { comm.receive(x, 0, 1 << 15).wait(); }, "receive of");
    comm.barrier();
  });
}

// The operations that a rank can be found waiting in, by number; false past the last.
bool wait_in(Communicator& comm, Device& device, int which) {
  const Tensor x = Tensor::zeros(device, DType::f32, {comm.size() * 50'000});
  const Tensor y = Tensor::zeros(device, DType::f32, {50'000}), z = Tensor::zeros(device, DType::f32, x.shape());
  switch (which) {
    case 0: comm.all_reduce(x).wait(); return true;
    case 1: comm.reduce_scatter(x, y).wait(); return true;
    case 2: comm.all_gather(y, x).wait(); return true;
    case 3: comm.all_to_all(x, z).wait(); return true;
    case 4: comm.broadcast(x, 0).wait(); return true;
    case 5: comm.barrier(); return true;
    case 6: comm.receive(x, 0).wait(); return true;
    case 7: comm.split(0, 0, "part"); return true;
    case 8: {  // behind others of its group
      std::vector<Pending> pending;
      for (int i = 0; i < 20; ++i) pending.push_back(comm.all_reduce(x));
      pending.back().wait();
      return true;
    }
    default: return false;
  }
}

TEST_P(Failures, AbortWakesEveryKindOfWaitOnEveryRank) {
  for (int which = 0; which < 9; ++which) {
    world().run([&](Communicator& comm, Device& device) {
      const std::string error = error_of([&] {
        comm.barrier();
        if (comm.rank() == 0) {
          comm.abort("the data ran out");
          comm.abort("a second reason");
        }
        wait_in(comm, device, which);
      });
      EXPECT_THAT(error, HasSubstr("the data ran out")) << which;
      // And from then on.
      EXPECT_THAT(error_of([&] { wait_in(comm, device, which); }), HasSubstr("the data ran out")) << which;
      EXPECT_THAT(error_of([&] { comm.barrier(); }), HasSubstr("the data ran out"));
    });
  }
}

TEST_P(Failures, AbortFromAnotherThreadWakesItsOwnRank) {
  world().run([&](Communicator& comm, Device& device) {
    std::thread watcher([&] {
      if (comm.rank() == 1) comm.abort("the watcher saw enough");
    });
    const Tensor x = Tensor::zeros(device, DType::f32, {10});
    EXPECT_THAT(error_of([&] { comm.receive(x, (comm.rank() + 1) % comm.size()).wait(); }),
                HasSubstr("the watcher saw enough"));
    watcher.join();
  });
}

TEST_P(Failures, AbortOfOneGroupEndsTheGroupsAroundIt) {
  world().run([&](Communicator& comm, Device& device) {
    EXPECT_THAT(error_of([&] {
                  const auto pair = comm.split(comm.rank() / 2, 0, "pair");
                  const auto all = comm.split(0, 0, "all");
                  if (comm.rank() == 0) pair->abort("one pair broke");
                  for (;;) all->barrier();
                }),
                HasSubstr("one pair broke"));
    EXPECT_THAT(error_of([&] { comm.barrier(); }), HasSubstr("one pair broke"));
  });
}

TEST_P(Failures, DeadlineNamesTheOperationAndWhoDidNotCome) {
  world().run(
      [&](Communicator& comm, Device& device) {
        comm.barrier();
        const Tensor x = Tensor::zeros(device, DType::f32, {10});
        const std::string error = error_of([&] {
          if (comm.rank() > 0) comm.all_reduce(x).wait();
          // Never comes to it, though it is alive and waits for nobody else.
          const Tensor y = Tensor::zeros(device, DType::f32, {10});
          for (;;) {
            Pending here = comm.receive(y, 0, 9);
            comm.send(x, 0, 9).wait();
            here.wait();
          }
        });
        EXPECT_THAT(error, HasSubstr("no answer from rank 0 "));
        EXPECT_THAT(error, HasSubstr(" for 0.2 s in all_reduce (sum) of 10 f32 of group \"world\""));
        EXPECT_THAT(error, testing::Not(HasSubstr("no answer from rank 1")));
      },
      {.deadline = 200ms});
}

TEST_P(Failures, OperationsThatDifferAreNamed) {
  const std::function<Pending(Communicator&, Device&)> others[] = {
      [](Communicator& comm, Device& device) { return comm.all_reduce(Tensor::zeros(device, DType::f32, {12})); },
      [](Communicator& comm, Device& device) { return comm.all_reduce(Tensor::zeros(device, DType::f64, {10})); },
      [](Communicator& comm, Device& device) {
        return comm.all_reduce(Tensor::zeros(device, DType::f32, {10}), Reduction::maximum);
      },
      [](Communicator& comm, Device& device) { return comm.broadcast(Tensor::zeros(device, DType::f32, {10}), 0); },
      [](Communicator& comm, Device&) {
        comm.barrier();
        return Pending();
      }};
  for (const auto& other : others) {
    world().run([&](Communicator& comm, Device& device) {
      const std::string error = error_of([&] {
        if (comm.rank() == 1) {
          other(comm, device).wait();
        } else {
          comm.all_reduce(Tensor::zeros(device, DType::f32, {10})).wait();
        }
        for (;;) comm.barrier();
      });
      EXPECT_THAT(error, HasSubstr("all_reduce (sum) of 10 f32"));
      EXPECT_THAT(error, HasSubstr("rank 1 "));
    });
  }
}

TEST_P(Failures, PairsThatDifferAreNamed) {
  world().run([&](Communicator& comm, Device& device) {
    const auto n = static_cast<size_t>(comm.size());
    std::vector<int64_t> send(n, 1), receive(n, 1);
    if (comm.rank() == 1) send[0] = 4;
    const auto rows = [](const std::vector<int64_t>& v) { return std::accumulate(v.begin(), v.end(), int64_t{0}); };
    const Tensor in = Tensor::zeros(device, DType::f32, {rows(send), 2});
    const Tensor out = Tensor::zeros(device, DType::f32, {rows(receive), 2});
    const std::string error = error_of([&] {
      comm.all_to_all_v(in, send, out, receive).wait();
      for (;;) comm.barrier();
    });
    EXPECT_THAT(error, HasSubstr("rank 1 sends 8 elements to rank 0, which expects 2"));
  });
  // A rank's own piece is no exception, and is told before anything moves.
  world().run([&](Communicator& comm, Device& device) {
    const auto n = static_cast<size_t>(comm.size());
    std::vector<int64_t> send(n, 1), receive(n, 1);
    if (comm.rank() == 1) receive[1] = 3;
    const Tensor in = Tensor::zeros(device, DType::f32, {static_cast<int64_t>(n), 2});
    const Tensor out = Tensor::zeros(device, DType::f32, {static_cast<int64_t>(n) + (comm.rank() == 1 ? 2 : 0), 2});
    const std::string own = error_of([&] { comm.all_to_all_v(in, send, out, receive).wait(); });
    if (comm.rank() == 1) EXPECT_THAT(own, HasSubstr("rank 1 sends 2 elements to rank 1, which expects 6"));
    EXPECT_THAT(error_of([&] {
                  for (;;) comm.barrier();
                }),
                HasSubstr("rank 1 sends 2 elements to rank 1, which expects 6"));
  });
  world().run([&](Communicator& comm, Device& device) {
    const std::string error = error_of([&] {
      if (comm.rank() == 0) comm.send(Tensor::zeros(device, DType::f32, {5}), 1, 3).wait();
      if (comm.rank() == 1) comm.receive(Tensor::zeros(device, DType::f32, {6}), 0, 3).wait();
      for (;;) comm.barrier();
    });
    EXPECT_THAT(error, HasSubstr("send of 5 f32"));
    EXPECT_THAT(error, HasSubstr("receive of 6 f32"));
  });
}

TEST_P(Failures, ADroppedOperationEndsTheGroup) {
  world().run([&](Communicator& comm, Device& device) {
    const Tensor x = Tensor::zeros(device, DType::f32, {10});
    if (comm.rank() == 1) {
      const Pending dropped = comm.receive(x, 0);
    }
    EXPECT_THAT(error_of([&] {
                  for (;;) comm.barrier();
                }),
                HasSubstr("rank 1 dropped receive of 10 f32"));
  });
}

TEST_P(Failures, AnOperationThatNeedsARankThatLeftFailsAtOnce) {
  world().run([&](Communicator& comm, Device& device) {
    const Tensor x = Tensor::zeros(device, DType::f32, {10});
    if (comm.rank() == 0) return comm.barrier();
    EXPECT_THAT(error_of([&] {
                  comm.barrier();
                  comm.all_reduce(x).wait();
                }),
                HasSubstr("rank 0 left group \"world\""));
  });
}

}  // namespace
}  // namespace troupe::parallel
