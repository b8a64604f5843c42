#include "parallel/comm/mpi_session.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "parallel/comm/process_communicator.h"

namespace troupe::parallel {
namespace {

// Open MPI finds its own parts by global symbols, hence RTLD_GLOBAL. Never unloaded: MPI cannot be started twice.
Result<const MpiCalls*> load(const std::string& library) {
  if (!has_mpi()) return environment_error("this program was built without MPI (TROUPE_MPI)");
  std::vector<std::string> places{library};
  if (library.empty()) {
    std::error_code ignored;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    places = {(program.parent_path() / "libtroupe_mpi.so").string(), "libtroupe_mpi.so"};
  }
  std::string why;
  for (const std::string& place : places) {
    void* handle = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!handle) {
      why += (why.empty() ? "" : "; ") + std::string(dlerror());
      continue;
    }
    const auto symbol = reinterpret_cast<const MpiCalls* (*)()>(dlsym(handle, kMpiCallsSymbol));
    const MpiCalls* calls = symbol ? symbol() : nullptr;
    if (calls && calls->version == MpiCalls::kVersion) return calls;
    why += place + " belongs to another build";
  }
  return environment_error("MPI is not to be had: {}", why);
}

}  // namespace

bool has_mpi() { return TROUPE_HAS_MPI != 0; }

struct MpiSession::State {
  const MpiCalls* calls = nullptr;
  int rank = 0, size = 1, tag_limit = 0;
  std::shared_ptr<ProcessEngine> engine;
  std::unique_ptr<Communicator> lobby;  // all ranks, by messages: where worlds are agreed on
  bool finalize_after_aborts = false;
};

MpiSession::MpiSession(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<MpiSession>> MpiSession::open(MpiOptions options) {
  auto state = std::make_unique<State>();
  state->finalize_after_aborts = options.finalize_after_aborts;
  state->calls = TROUPE_TRY(load(options.library));
  const MpiCalls& calls = *state->calls;
  if (const char* error = calls.init(&state->rank, &state->size, &state->tag_limit)) {
    return environment_error("MPI could not be started: {}", error);
  }
  struct Card {
    int host;
    int64_t process_id;
    char node[64];
  } mine{state->rank, getpid(), {}};
  if (!options.one_host_per_rank) {
    if (const char* error = calls.host_leader(&mine.host)) return environment_error("MPI failed: {}", error);
  }
  gethostname(mine.node, sizeof mine.node - 1);
  std::vector<Card> cards(static_cast<size_t>(state->size));
  if (const char* error = calls.all_gather(&mine, cards.data(), sizeof mine)) {
    return environment_error("MPI failed: {}", error);
  }
  std::vector<ProcessInfo> processes;
  for (const Card& card : cards) {
    int before = 0;
    for (const ProcessInfo& other : processes) before += other.host == card.host;
    processes.push_back({card.host, before, card.process_id, card.node});
  }
  if (MessageGroup::contexts(state->tag_limit) < 4)  // the lobby and a world
    return environment_error("the tags of this MPI end at {}: too few", state->tag_limit);
  state->engine = std::make_shared<ProcessEngine>(calls, state->rank, std::move(processes), state->tag_limit);
  auto area = TROUPE_TRY(SharedSegment::create(ProcessFamily::bytes_for(1)));
  std::vector<int> all(static_cast<size_t>(state->size));
  std::iota(all.begin(), all.end(), 0);
  const int context = state->engine->take_contexts(0, 2);
  const auto link = std::make_shared<FamilyLink>();
  link->family = std::make_shared<ProcessFamily>(std::move(area), 0, 1, context);
  state->lobby =
      make_process_communicator(state->engine, link, {}, "all processes", state->rank, std::move(all), context + 1, {});
  return std::unique_ptr<MpiSession>(new MpiSession(std::move(state)));
}

MpiSession::~MpiSession() {
  if (aborted() && !state_->finalize_after_aborts) return;
  state_->lobby = nullptr;
  state_->engine = nullptr;
  state_->calls->finalize();
}

Status MpiSession::mpi_all_reduce(std::span<const float> in, std::span<float> out) {
  const std::unique_lock lock(state_->engine->mutex());
  const char* error = state_->calls->all_reduce_f32(in.data(), out.data(), static_cast<int>(in.size()));
  if (error) return failed("MPI_Allreduce: {}", error);
  return {};
}

int MpiSession::rank() const { return state_->rank; }
int MpiSession::size() const { return state_->size; }
bool MpiSession::aborted() const { return state_->engine->any_aborted(); }

std::unique_ptr<Communicator> MpiSession::world(std::string name, CommunicatorOptions options) {
  ProcessEngine& engine = *state_->engine;
  const GatherBytes gather = [&](std::span<const std::byte> in, std::span<std::byte> out) {
    gather_bytes(*state_->lobby, in, out);
  };
  // Two numbers: the family's own, for its notices, and the group's.
  const int mine = engine.next_context();
  std::vector<int> theirs(static_cast<size_t>(size()));
  gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(theirs)));
  const int context = engine.take_contexts(*std::ranges::max_element(theirs), 2);
  const ProcessInfo& me = engine.processes()[static_cast<size_t>(rank())];
  std::vector<int> all, here;
  for (int r = 0; r < size(); ++r) {
    all.push_back(r);
    if (engine.processes()[static_cast<size_t>(r)].host == me.host) here.push_back(r);
  }
  const int local_size = static_cast<int>(here.size());
  const size_t area_bytes = ProcessFamily::bytes_for(local_size);
  SharedSegment area = share_segment(engine, here, me.local_rank, area_bytes, size(), gather);
  if (!area.data()) {
    TROUPE_CHECK(local_size == 1, "{} processes of {} cannot share memory", local_size, me.node);
    auto own = SharedSegment::create(area_bytes);
    if (!own) throw CommunicationError(own.error().message());
    area = std::move(own).value();
    area.close_handle();
  }
  SharedSegment segment = share_segment(engine, all, rank(), HostChannel::bytes_for(size()), size(), gather);
  const auto link = std::make_shared<FamilyLink>();
  link->family = std::make_shared<ProcessFamily>(std::move(area), me.local_rank, local_size, context);
  link->several_hosts = local_size < size();
  engine.listen(link);
  return make_process_communicator(state_->engine, link, std::move(segment), std::move(name), rank(), std::move(all),
                                   context + 1, options);
}

}  // namespace troupe::parallel
