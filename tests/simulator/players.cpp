#include "tests/simulator/players.h"

#include <algorithm>

namespace troupe::simulator {

using actor::Ref;
using actor::Task;
using namespace std::chrono_literals;

namespace {

// Fails like others, and is always started again.
bool is_anchor(std::string_view name) { return name.starts_with("anchor/"); }

// More than a link's window.
constexpr int kVisit = 20;

int64_t right_answer(int64_t value) { return 2 * value + 1; }

}  // namespace

std::vector<std::string> names_of(const FamilySpec& family) {
  std::vector<std::string> names;
  for (int i = 0; i < family.workers; ++i) names.push_back(fmt::format("{}/worker-{}", family.name, i));
  for (const FamilySpec& child : family.families) {
    for (const std::string& name : names_of(child)) names.push_back(family.name + "/" + name);
  }
  return names;
}

Task<void> Player::on_start() {
  ledger_.started(life_, {node().options().id, cell().id()});
  return {};
}

Task<void> Player::on_stop() {
  ledger_.stops(life_);
  return {};
}

Result<int64_t> Worker::answer(Numbered message) {
  ledger_.arrived(life_, message.stream, message.number);
  return right_answer(message.value);
}

Task<Result<int64_t>> Worker::answer_later(Numbered message) {
  ledger_.arrived(life_, message.stream, message.number);
  TROUPE_CO_TRY(co_await sleep(std::chrono::microseconds(message.value)));
  co_return right_answer(message.value);
}

void Worker::note(Numbered message) { ledger_.arrived(life_, message.stream, message.number); }

void Worker::fails(Numbered message) {
  ledger_.arrived(life_, message.stream, message.number);
  const std::string why = fmt::format("bad luck {}.{}", message.stream, message.number);
  ledger_.throws(life_, why);
  throw std::runtime_error(why);
}

void Worker::ends(Numbered message) {
  ledger_.arrived(life_, message.stream, message.number);
  stop("enough");
}

Task<void> Worker::on_stop() {
  ledger_.stops(life_);
  if (stops_in_ > 0ns) (void)co_await sleep(stops_in_);
}

Task<void> Family::on_start() {
  (void)Player::on_start();
  supervise(spec_.supervision);
  ledger_.life(life_).supervision = spec_.supervision;
  for (int i = 0; i < spec_.workers; ++i) {
    const std::string worker = fmt::format("worker-{}", i);
    spawn<Worker>({.name = worker, .mailbox = spec_.mailbox, .registered = name() + "/" + worker}, &ledger_, life_,
                  worker, spec_.stops_in);
  }
  for (const FamilySpec& family : spec_.families) spawn<Family>({.name = family.name}, &ledger_, life_, family);
  return {};
}

Task<void> Dialer::on_start() {
  (void)self<Dialer>().try_tell<&Dialer::dial>().ok();
  return {};
}

Task<void> Dialer::dial() {
  const uint64_t own = node().options().id;
  while (true) {
    std::vector<std::string> addresses;
    const auto peers = node().peers();
    for (const auto& process : simulation_.processes()) {
      const bool linked = std::ranges::any_of(peers, [&](const net::Peer& peer) { return peer.node == process->id(); });
      if (process->id() < own && !linked) addresses.push_back(process->name());
    }
    for (const std::string& address : addresses)
      (void)co_await actor::connect(node(), simulation_.find(own)->transport(), address, 1s);
    if (!(co_await sleep(100ms)).ok()) co_return;
  }
}

Task<void> Client::on_start() {
  (void)Player::on_start();
  (void)self<Client>().try_tell<&Client::live>().ok();
  return {};
}

Task<void> Client::live() {
  while (!ledger_.is_quiet()) {
    const auto think =
        nanoseconds(static_cast<int64_t>(random_.uniform() * 2 * static_cast<double>(spec_.think.count())));
    if (!(co_await sleep(think)).ok()) co_return;
    co_await one_deed();
  }
}

nanoseconds Client::slack() const {
  const Process* process = ledger_.simulation().find(node().options().id);
  return process->held();
}

Task<Result<Client::Known>> Client::find(uint64_t on, const std::string& name) {
  Result<Ref<Worker>> found = failed("");
  if (on == node().options().id) found = node().lookup<Worker>(name);
  else found = co_await actor::lookup<Worker>(node(), on, name, 500ms);
  const Ref<Worker> worker = TROUPE_CO_TRY(std::move(found));
  const Place place{worker.endpoint()->node(), worker.endpoint()->id()};
  Known& known = known_[place];
  if (!known.worker || !(known.worker == worker)) known = {worker, place, ledger_.open_stream(place).number};
  co_return known;
}

Client::Known* Client::somebody() {
  if (known_.empty()) return nullptr;
  auto known = known_.begin();
  std::advance(known, static_cast<int64_t>(random_.below(known_.size())));
  return &known->second;
}

Numbered Client::next(const Known& whom, int64_t value) {
  return {whom.stream, ++ledger_.stream(whom.stream).sent, value};
}

template <auto M>
Task<void> Client::ask(Known whom, int64_t value, nanoseconds deadline) {
  Simulation& simulation = ledger_.simulation();
  const nanoseconds begun = now(), held = slack();
  const Numbered message = next(whom, value);
  const auto answer = co_await whom.worker.template ask<M>(message, deadline);
  simulation.require(now() - begun <= deadline + slack() - held + 1ms, "an ask ends by its deadline",
                     "an ask of {} took {} ms of {}", whom.worker.name(), (now() - begun) / 1ms, deadline / 1ms);
  if (!answer.ok()) {
    ledger_.excuse(whom.stream, message.number);
    ledger_.check_error(whom.place, answer.error());
    if (random_.below(2) == 0) known_.erase(whom.place);
    co_return;
  }
  if constexpr (std::is_same_v<decltype(answer), const Result<int64_t>>) {
    simulation.require(*answer == right_answer(value), "an answer is that of its ask", "{} answered {} with {}",
                       whom.worker.name(), value, *answer);
  }
  simulation.require(ledger_.stream(whom.stream).arrived >= message.number, "what is answered was handled",
                     "{} answered message {} of stream {}", whom.worker.name(), message.number, whom.stream);
}

template <auto M>
Task<void> Client::tell(Known whom, int64_t value) {
  const Numbered message = next(whom, value);
  const Status told = co_await whom.worker.template tell<M>(message);
  if (told.ok()) co_return;
  ledger_.excuse(whom.stream, message.number);
  ledger_.check_error(whom.place, told.error());
  known_.erase(whom.place);
}

void Client::burst(const Known& whom) {
  for (uint64_t left = 5 + random_.below(30); left > 0; --left) {
    const Numbered message = next(whom, 0);
    const Status told = whom.worker.try_tell<&Worker::note>(message);
    if (!told.ok()) ledger_.excuse(whom.stream, message.number);
  }
}

Task<void> Client::one_deed() {
  const auto& processes = ledger_.simulation().processes();
  const double what = random_.uniform();
  Known* chosen = somebody();
  if (chosen == nullptr || what < 0.1) {
    const Process& process = *processes[random_.below(processes.size())];
    (void)co_await find(process.id(), names_[random_.below(names_.size())]);
    co_return;
  }
  const Known whom = *chosen;
  const auto micros = static_cast<int64_t>(random_.below(60'000));
  const auto deadline = nanoseconds(50us * static_cast<int64_t>(1 + random_.below(4'000)));
  double chance = 0.1;
  const auto next_case = [&](double share) { return what < (chance += share); };
  if (next_case(spec_.fails)) co_return co_await tell<&Worker::fails>(whom, 0);
  if (next_case(spec_.ends)) {
    if (!is_anchor(whom.worker.name())) co_await tell<&Worker::ends>(whom, 0);
    co_return;
  }
  if (next_case(0.08)) {
    ledger_.watches(life_, whom.place);
    co_return watch<&Client::down>(whom.worker);
  }
  if (next_case(0.02)) {
    ledger_.unwatches(life_, whom.place);
    co_return unwatch(whom.worker);
  }
  if (next_case(0.04)) {
    known_.erase(whom.place);
    co_return;
  }
  if (next_case(0.1)) co_return burst(whom);
  if (next_case(0.15)) co_return co_await tell<&Worker::note>(whom, 0);
  if (next_case(0.2)) co_return co_await ask<&Worker::answer>(whom, micros, deadline);
  if (next_case(0.1)) co_return co_await ask<&Worker::answer_later>(whom, micros, deadline);
  std::vector<Task<void>> several;
  for (int64_t i = 0; i < 4; ++i) {
    several.push_back(i % 2 == 0 ? ask<&Worker::answer>(whom, micros + i, deadline)
                                 : ask<&Worker::answer_later>(whom, micros / 8 + i, deadline));
  }
  co_await actor::all(std::move(several));
}

Task<void> Client::visit(bool everyone) {
  Simulation& simulation = ledger_.simulation();
  for (const auto& process : simulation.processes()) {
    for (const std::string& name : names_) {
      const bool must_be_there = is_anchor(name);
      if (!everyone && !must_be_there) continue;
      const auto found = co_await find(process->id(), name);
      simulation.require(found.ok() || !must_be_there, "everyone is found once all is well",
                         "{} does not find {} of {}: {}", spec_.name, name, process->name(),
                         found.ok() ? "" : found.error().message());
      if (!found.ok()) continue;
      const Known whom = *found;
      const Life* life = ledger_.life_at(whom.place);
      simulation.require(life != nullptr && !life->ends(), "names lead to the living", "{} of {}", name,
                         process->name());
      // More than a window of them: credits come back.
      for (int i = 0; i < kVisit; ++i) {
        const Numbered message = next(whom, 0);
        const Status told = co_await whom.worker.tell<&Worker::note>(message);
        simulation.require(told.ok(), "everyone hears once all is well", "{} of {}: {}", name, process->name(),
                           told.ok() ? "" : told.error().message());
        if (!told.ok()) co_return;
      }
      const Numbered message = next(whom, 7);
      const auto answer = co_await whom.worker.ask<&Worker::answer>(message, 2s);
      simulation.require(answer.ok() && *answer == right_answer(7), "everyone answers once all is well", "{} of {}: {}",
                         name, process->name(), answer.ok() ? "another answer" : answer.error().message());
      const Stream& stream = ledger_.stream(whom.stream);
      simulation.require(!answer.ok() || stream.arrived == stream.sent, "everyone hears once all is well", "{} of {}",
                         name, process->name());
    }
  }
}

}  // namespace troupe::simulator
