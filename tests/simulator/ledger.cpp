#include "tests/simulator/ledger.h"

#include <algorithm>

namespace troupe::simulator {
namespace {

template <class T>
bool contains(const std::vector<T>& all, const T& one) {
  return std::ranges::find(all, one) != all.end();
}

// Long enough for the end of an actor to be told to everyone who watches.
constexpr std::chrono::seconds kNews{2};

}  // namespace

int64_t Ledger::born(int64_t parent, const std::string& name) {
  Life& life = lives_.emplace_back();
  life.number = static_cast<int64_t>(lives_.size());
  life.parent = parent;
  life.name = name;
  life.born_at = simulation_.now();
  if (parent != 0) {
    // A restarted child keeps its place among the others.
    const Life& supervisor = this->life(parent);
    auto& siblings = this->life(parent).children;
    const auto before = std::ranges::find_if(siblings, [&](int64_t s) { return this->life(s).name == name; });
    if (before == siblings.end()) {
      siblings.push_back(life.number);
    } else {
      const Life& last = this->life(*before);
      simulation_.require(last.gone, "one life at a time", "{} was started again while it lived", name);
      const Process* process = simulation_.find(supervisor.place.first);
      simulation_.require(process == nullptr || !process->node().stopping(), "who stops starts nobody again", "{}",
                          name);
      *before = life.number;
      if (supervisor.supervision.strategy == actor::Strategy::one_for_all && !supervisor.failures.empty()) {
        const nanoseconds failed_at = this->life(supervisor.failures.back()).threw_at;
        for (const int64_t sibling : siblings) {
          const Life& other = this->life(sibling);
          simulation_.require(other.gone || other.born_at >= failed_at, "one for all",
                              "{} is started again while {} still lives", name, other.name);
        }
      }
    }
  }
  return life.number;
}

void Ledger::started(int64_t number, Place place) {
  Life& life = this->life(number);
  life.place = place;
  life.started = true;
  simulation_.require(places_.emplace(place, number).second, "identity", "{} has the address of another actor",
                      life.name);
}

void Ledger::throws(int64_t number, std::string text) {
  Life& life = this->life(number);
  simulation_.require(life.threw.empty() && !life.stopping, "no handler after the end", "{} fails after its end",
                      life.name);
  life.threw = std::move(text);
  life.threw_at = simulation_.now();
  if (life.parent != 0) this->life(life.parent).failures.push_back(number);
}

void Ledger::stops(int64_t number) {
  Life& life = this->life(number);
  simulation_.require(!life.stopping && life.threw.empty(), "on_stop runs once, and not after a failure",
                      "on_stop of {}", life.name);
  life.stopping = true;
  for (const int64_t child : life.children) {
    const Life& c = this->life(child);
    simulation_.require(c.gone, "stop ends children first", "{} runs on_stop while its child {} lives", life.name,
                        c.name);
  }
  if (life.parent == 0 || !ending_) return;
  const auto& siblings = this->life(life.parent).children;
  for (auto younger = std::ranges::find(siblings, number) + 1; younger < siblings.end(); ++younger) {
    simulation_.require(this->life(*younger).gone, "stop goes from the youngest", "{} stops while {} lives", life.name,
                        this->life(*younger).name);
  }
}

void Ledger::gone(int64_t number) {
  Life& life = this->life(number);
  life.gone = true;
  life.gone_at = simulation_.now();
}

Life* Ledger::life_at(Place place) {
  const auto found = places_.find(place);
  return found == places_.end() ? nullptr : &life(found->second);
}

int64_t Ledger::living() const {
  return std::ranges::count_if(lives_, [](const Life& life) { return !life.gone; });
}

Stream& Ledger::open_stream(Place to) {
  Stream& stream = streams_.emplace_back();
  stream.number = static_cast<int64_t>(streams_.size());
  stream.to = to;
  return stream;
}

void Ledger::arrived(int64_t number, int64_t of, int64_t message) {
  Stream& stream = this->stream(of);
  const Life& life = this->life(number);
  simulation_.require(stream.to == life.place, "identity", "{} got a message for another actor", life.name);
  simulation_.require(message > stream.arrived, "in order, at most once", "{} got message {} after {} of stream {}",
                      life.name, message, stream.arrived, of);
  simulation_.require(message <= stream.sent, "nothing is made up", "{} got message {} of {} of stream {}", life.name,
                      message, stream.sent, of);
  simulation_.require(!life.stopping && life.threw.empty(), "no handler after the end", "{} got a message", life.name);
  for (int64_t between = stream.arrived + 1; between < message; ++between) stream.missing.push_back(between);
  stream.arrived = std::max(stream.arrived, message);
}

void Ledger::watches(int64_t watcher, Place whom) {
  Watches& watches = watches_[{watcher, whom}];
  ++watches.made;
  watches.since = simulation_.now();
}

void Ledger::unwatches(int64_t watcher, Place whom) {
  Watches& watches = watches_[{watcher, whom}];
  watches.taken_back = watches.made - watches.told;
}

void Ledger::told(int64_t watcher, const actor::Down& down) {
  Watches& watches = watches_[{watcher, {down.node, down.actor}}];
  ++watches.told;
  simulation_.require(watches.told <= watches.made, "one Down for a watch", "{} was told of the end of {} {} times",
                      life(watcher).name, down.name, watches.told);
  const actor::Exit& cause = *down.cause;
  if (cause.kind == actor::Exit::Kind::lost) return;
  const Life* of = life_at({down.node, down.actor});
  if (of == nullptr) return;
  simulation_.require(of->ends(), "a Down is true", "{} lives, and its end was told: {}", of->name, cause.message());
  const bool says_thrown = cause.kind == actor::Exit::Kind::failed && cause.who == down.name;
  if (!of->threw.empty()) {
    simulation_.require(says_thrown && cause.why.find(of->threw) != std::string::npos, "the first cause",
                        "{} failed by \"{}\", its end was told as: {}", of->name, of->threw, cause.message());
  } else if (of->failures.empty()) {
    simulation_.require(!says_thrown, "the first cause", "{} did not fail, its end was told as: {}", of->name,
                        cause.message());
  }
}

void Ledger::check_error(Place of, const Error& error) {
  const Life* life = life_at(of);
  if (life == nullptr) return;
  const std::string& text = error.message();
  if (text.find("was not answered") == std::string::npos || text.find(" was lost") != std::string::npos) return;
  simulation_.require(life->ends() || simulation_.find(of.first) == nullptr, "an error is true", "{} lives, but: {}",
                      life->name, text);
  if (life->threw.empty()) return;
  simulation_.require(text.find(life->threw) != std::string::npos || text.find("ended long ago") != std::string::npos,
                      "the first cause", "{} failed by \"{}\", but an ask says: {}", life->name, life->threw, text);
}

bool Ledger::is_gone(Place place) {
  if (simulation_.find(place.first) == nullptr) return true;
  const Life* life = life_at(place);
  return life != nullptr && life->gone && simulation_.now() - life->gone_at > kNews;
}

void Ledger::check_quiet() {
  for (const Stream& stream : streams_) {
    for (const int64_t message : stream.missing) {
      simulation_.require(contains(stream.excused, message), "nothing is lost in between",
                          "message {} of stream {} never arrived, but later ones did", message, stream.number);
    }
  }
  for (const auto& [key, watches] : watches_) {
    const auto& [watcher, whom] = key;
    if (life(watcher).gone || !is_gone(whom)) continue;
    simulation_.require(watches.told >= watches.made - watches.taken_back, "one Down for a watch",
                        "{} was told {} times of an end that it watched {} times ({} taken back)", life(watcher).name,
                        watches.told, watches.made, watches.taken_back);
  }
  for (const Life& life : lives_) check_restarts(life);
}

// A supervisor that restarts one for one lives while its children fail seldom enough, and no longer.
void Ledger::check_restarts(const Life& supervisor) {
  const auto& [strategy, most, window] = supervisor.supervision;
  if (strategy != actor::Strategy::one_for_one || !supervisor.started) return;
  const auto& failures = supervisor.failures;
  const Process* process = simulation_.find(supervisor.place.first);
  if (process == nullptr || process->held() > nanoseconds(0)) return;  // its time was another
  bool too_many = false;
  for (size_t last = static_cast<size_t>(most); last < failures.size(); ++last) {
    const nanoseconds first = life(failures[last - static_cast<size_t>(most)]).threw_at;
    too_many |= life(failures[last]).threw_at - first <= window;
  }
  simulation_.require(!too_many || supervisor.gone || supervisor.stopping, "restart intensity",
                      "{} lives though {} of its children failed within {} s", supervisor.name, most + 1,
                      std::chrono::duration<double>(window).count());
}

}  // namespace troupe::simulator
