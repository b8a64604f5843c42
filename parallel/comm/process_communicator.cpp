#include "parallel/comm/process_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <map>

namespace troupe::parallel {
namespace {

template <class T>
std::vector<T> gather_values(const T& mine, int ranks, const GatherBytes& gather) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<size_t>(ranks));
  gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

class ProcessPending final : public Pending::Operation {
 public:
  ProcessPending(std::shared_ptr<ProcessEngine> engine, std::shared_ptr<ProcessGroup> group, Request&& request)
      : engine_(std::move(engine)), group_(std::move(group)), operation_(engine_->start(group_, std::move(request))) {}
  ~ProcessPending() override { engine_->drop(group_, operation_); }

  std::chrono::nanoseconds wait() override { return engine_->wait(group_, operation_); }
  bool done() override { return engine_->done(operation_); }

 private:
  std::shared_ptr<ProcessEngine> engine_;
  std::shared_ptr<ProcessGroup> group_;
  ProcessGroup::OperationPointer operation_;
};

class ProcessCommunicator final : public Communicator {
 public:
  ProcessCommunicator(std::shared_ptr<ProcessEngine> engine, std::shared_ptr<ProcessGroup> group)
      : Communicator(group->messages.rank, group->messages.size(), group->messages.name),
        engine_(std::move(engine)),
        group_(std::move(group)) {}
  ~ProcessCommunicator() override { engine_->leave(group_); }

  std::unique_ptr<Communicator> split(int color, int key, std::string name) override;
  void gather(std::span<const std::byte> in, std::span<std::byte> out) {
    start({.signature = {.kind = OperationKind::split, .elements = static_cast<int64_t>(in.size())},
           .in = in.data(),
           .out = out.data()})
        .wait();
  }
  void abort(std::string_view reason) noexcept override { engine_->abort(*group_->link, reason); }
  std::string under_way() const override { return engine_->under_way(*group_); }

 protected:
  Pending start(Request&& request) override {
    return Pending(std::make_shared<ProcessPending>(engine_, group_, std::move(request)));
  }

 private:
  std::shared_ptr<ProcessEngine> engine_;
  std::shared_ptr<ProcessGroup> group_;
};

std::unique_ptr<Communicator> ProcessCommunicator::split(int color, int key, std::string name) {
  const GatherBytes over_all = [&](std::span<const std::byte> in, std::span<std::byte> out) { gather(in, out); };
  struct Choice {
    int color, key, next_context;
  };
  const auto choices = gather_values(Choice{color, key, engine_->next_context()}, size(), over_all);
  int next = 0;
  std::map<int, std::vector<std::pair<int, int>>> groups;  // color → (key, rank), sorted
  for (int r = 0; r < size(); ++r) {
    const Choice& choice = choices[static_cast<size_t>(r)];
    next = std::max(next, choice.next_context);
    if (choice.color >= 0) groups[choice.color].emplace_back(choice.key, r);
  }
  int context = engine_->take_contexts(next, static_cast<int>(groups.size()));
  std::vector<int> members;
  int mine = -1;
  for (auto& [of_color, ranks] : groups) {
    if (of_color == color) {
      std::ranges::sort(ranks);
      for (const auto& [of_key, r] : ranks) {
        if (r == rank()) mine = static_cast<int>(members.size());
        members.push_back(group_->messages.members[static_cast<size_t>(r)]);
      }
      break;
    }
    ++context;
  }
  SharedSegment segment = share_segment(*engine_, members, mine,
                                        HostChannel::bytes_for(static_cast<int>(members.size())), size(), over_all);
  if (members.empty()) return nullptr;
  return make_process_communicator(engine_, group_->link, std::move(segment), std::move(name), mine, std::move(members),
                                   context, group_->options);
}

}  // namespace

void gather_bytes(Communicator& comm, std::span<const std::byte> in, std::span<std::byte> out) {
  dynamic_cast<ProcessCommunicator&>(comm).gather(in, out);
}

SharedSegment share_segment(const ProcessEngine& engine, const std::vector<int>& members, int rank, size_t bytes,
                            int reached, const GatherBytes& gather) {
  const auto info = [&](int world) -> const ProcessInfo& { return engine.processes()[static_cast<size_t>(world)]; };
  const bool together = members.size() > 1 && std::ranges::all_of(members, [&](int world) {
                          return info(world).host == info(members[0]).host;
                        });
  struct Offer {
    int world, handle;  // handle -1: none
  };
  SharedSegment segment;
  Offer mine{engine.rank(), -1};
  if (together && rank == 0) {
    if (auto created = SharedSegment::create(bytes)) {
      segment = std::move(created).value();
      mine.handle = segment.handle();
    }
  }
  const auto offers = gather_values(mine, reached, gather);
  if (together && rank > 0) {
    const auto offer = std::ranges::find(offers, members[0], &Offer::world);
    if (offer != offers.end() && offer->handle >= 0) {
      auto opened = SharedSegment::open(info(members[0]).process_id, offer->handle, bytes);
      if (opened) segment = std::move(opened).value();
    }
  }
  // All of them, or none.
  mine.handle = segment.data() ? 0 : -1;
  const auto answers = gather_values(mine, reached, gather);
  const bool all = std::ranges::all_of(members, [&](int world) {
    const auto answer = std::ranges::find(answers, world, &Offer::world);
    return answer != answers.end() && answer->handle >= 0;
  });
  segment.close_handle();
  return all ? std::move(segment) : SharedSegment();
}

std::unique_ptr<Communicator> make_process_communicator(std::shared_ptr<ProcessEngine> engine,
                                                        std::shared_ptr<FamilyLink> link, SharedSegment segment,
                                                        std::string name, int rank, std::vector<int> members,
                                                        int context, CommunicatorOptions options) {
  std::vector<int> bells;
  for (const int world : members) bells.push_back(engine->processes()[static_cast<size_t>(world)].local_rank);
  auto group = std::make_shared<ProcessGroup>(engine->calls(), name, rank, std::move(members), context, options, link);
  if (segment.data()) {
    group->channel = std::make_unique<HostChannel>(std::move(segment), rank, std::move(bells), link->family, name);
  }
  return std::make_unique<ProcessCommunicator>(std::move(engine), std::move(group));
}

}  // namespace troupe::parallel
