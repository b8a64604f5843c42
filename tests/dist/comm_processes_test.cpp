// The conformance suite of communicators between processes: run by mpirun, every rank runs every test.
//
//   mpirun -n 3 comm_processes_test [--one-host-per-rank] [--gtest_…]
//
// With --one-host-per-rank nothing goes through shared memory, as between hosts. Prints what fails, of any rank, and
// rank 0's summary.
#include <cstdlib>

#include "parallel/comm/mpi_session.h"
#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

// Of this program's ranks: the session is opened by main, before the tests are instantiated.
std::shared_ptr<World> the_world;

class ProcessWorld final : public World {
 public:
  ProcessWorld(MpiSession& session, std::string name) : session_(session), name_(std::move(name)) {}
  std::string name() const override { return name_ + std::to_string(session_.size()); }
  int size() const override { return session_.size(); }
  void run(const std::function<void(Communicator&, Device&)>& body, CommunicatorOptions options) override {
    const auto device = kernels::make_cpu_device(1);
    const auto comm = session_.world("world", options);
    try {
      body(*comm, *device);
    } catch (const std::exception& error) {
      ADD_FAILURE() << "rank " << comm->rank() << " threw: " << error.what();
      comm->abort(error.what());
    }
  }

 private:
  MpiSession& session_;
  std::string name_;
};

// Reductions of many sizes and types, one after the other; the bits of what this rank got.
std::vector<std::byte> bits_of_reductions(Communicator& comm, Device& device) {
  std::vector<std::byte> bits;
  const auto keep = [&](const Tensor& x) {
    const auto* data = static_cast<const std::byte*>(x.raw());
    bits.insert(bits.end(), data, data + x.bytes());
  };
  uint64_t seed = 0;
  for_each_reducible([&]<class T>() {
    for (const int64_t n : {1, 17, 2049, 70'001, std::is_same_v<T, float> ? 400'009 : 3}) {
      for (const Reduction reduction : {Reduction::sum, Reduction::maximum}) {
        const Tensor x = unaligned(device, kernels::dtype_of<T>, n, 1);
        fill<T>(x, ++seed, comm.rank());
        comm.all_reduce(x, reduction).wait();
        keep(x);
        const Tensor in = unaligned(device, kernels::dtype_of<T>, n * comm.size(), 1);
        const Tensor out = unaligned(device, kernels::dtype_of<T>, n, 0);
        fill<T>(in, ++seed, comm.rank());
        comm.reduce_scatter(in, out, reduction).wait();
        keep(out);
      }
    }
  });
  return bits;
}

TEST_P(Conformance, GivesTheBitsOfThreads) {
  std::vector<std::byte> ours, of_threads;
  int rank = 0;
  world().run([&](Communicator& comm, Device& device) {
    rank = comm.rank();
    ours = bits_of_reductions(comm, device);
  });
  thread_world(world().size())->run([&](Communicator& comm, Device& device) {
    auto bits = bits_of_reductions(comm, device);
    if (comm.rank() == rank) of_threads = std::move(bits);
  });
  EXPECT_GT(ours.size(), 1'000'000u);
  EXPECT_TRUE(ours == of_threads);
}

// What ranks other than 0 print.
class FailuresOnly final : public testing::EmptyTestEventListener {
 public:
  explicit FailuresOnly(int rank) : rank_(rank) {}
  void OnTestStart(const testing::TestInfo& test) override { test_ = test.name(); }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d, %s: %s:%d: %s\n", rank_, test_.c_str(), result.file_name(), result.line_number(),
                 result.message());
  }

 private:
  std::string test_;
  int rank_;
};

INSTANTIATE_TEST_SUITE_P(Processes, Conformance, testing::Values(the_world),
                         [](const auto&) { return std::string("world"); });
INSTANTIATE_TEST_SUITE_P(Processes, Failures, testing::Values(the_world),
                         [](const auto&) { return std::string("world"); });

}  // namespace
}  // namespace troupe::parallel

int main(int argc, char** argv) {
  using namespace troupe::parallel;
  MpiOptions options;
  options.finalize_after_aborts = true;
  for (int i = 1; i < argc; ++i) options.one_host_per_rank |= std::string_view(argv[i]) == "--one-host-per-rank";
  auto session = MpiSession::open(options);
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.error().message().c_str());
    return 3;
  }
  MpiSession& mpi = **session;
  the_world = std::make_shared<ProcessWorld>(mpi, options.one_host_per_rank ? "hosts" : "processes");
  testing::InitGoogleTest(&argc, argv);
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (mpi.rank() > 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly(mpi.rank()));
  }
  const int failed = RUN_ALL_TESTS();
  the_world = nullptr;
  return failed;
}
