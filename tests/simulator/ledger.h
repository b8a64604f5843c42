// What really happened to the actors of a simulation, written down by themselves, and what must follow from it. Knows
// more than any node does.
#pragma once
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "runtime/actor/exit.h"
#include "runtime/actor/options.h"
#include "tests/simulator/simulation.h"

namespace troupe::simulator {

using actor::ActorId;
using Place = std::pair<uint64_t, ActorId>;  // node, actor

// One life of one actor.
struct Life {
  int64_t number = 0;
  int64_t parent = 0;
  std::string name;
  Place place;
  bool started = false, gone = false, stopping = false;
  std::string threw;  // the text of the exception that ended it; "": none did
  nanoseconds born_at{0}, threw_at{0}, gone_at{0};
  // Of a supervisor.
  actor::Supervision supervision;
  std::vector<int64_t> children;  // in their order
  std::vector<int64_t> failures;  // children that threw, in order of time

  // It has ended, or is about to.
  bool ends() const { return gone || stopping || !threw.empty() || !failures.empty(); }
};

// Messages of one sender to one life, in the order they were sent.
struct Stream {
  int64_t number = 0;
  Place to;
  int64_t sent = 0, arrived = 0;  // numbers of the last ones
  std::vector<int64_t> excused;   // may not have arrived: refused, given up, or sent over a link that was lost
  std::vector<int64_t> missing;   // were passed by later ones
};

// One watcher's watches of one actor.
struct Watches {
  int64_t made = 0, taken_back = 0, told = 0;
  nanoseconds since{0};
};

class Ledger {
 public:
  explicit Ledger(Simulation& simulation) : simulation_(simulation) {}
  Simulation& simulation() { return simulation_; }

  // --- Told by actors of their own life.
  int64_t born(int64_t parent, const std::string& name);
  void started(int64_t life, Place place);
  void throws(int64_t life, std::string text);
  void stops(int64_t life);
  void gone(int64_t life);
  Life& life(int64_t number) { return lives_.at(static_cast<size_t>(number - 1)); }
  // Null: nobody was ever there.
  Life* life_at(Place place);
  int64_t living() const;

  // --- Told by senders and receivers.
  Stream& open_stream(Place to);
  Stream& stream(int64_t number) { return streams_.at(static_cast<size_t>(number - 1)); }
  void excuse(int64_t stream, int64_t number) { this->stream(stream).excused.push_back(number); }
  // REQUIRES: called by the receiver, once for each message that it handles.
  void arrived(int64_t life, int64_t stream, int64_t number);

  // --- Told by watchers.
  void watches(int64_t watcher, Place whom);
  void unwatches(int64_t watcher, Place whom);
  void told(int64_t watcher, const actor::Down& down);

  // An error that an ask or a tell ended with: the cause it names is the true one.
  void check_error(Place of, const Error& error);
  // Clients rest.
  void quiet_begins() { quiet_ = true; }
  bool is_quiet() const { return quiet_; }
  // All has been quiet for a while: what must have come has come.
  void check_quiet();
  // From here on actors only end because their nodes stop.
  void end_begins() { ending_ = true; }

 private:
  bool is_gone(Place place);
  void check_restarts(const Life& supervisor);
  Simulation& simulation_;
  bool quiet_ = false, ending_ = false;
  std::deque<Life> lives_;
  std::deque<Stream> streams_;
  std::map<Place, int64_t> places_;
  std::map<std::pair<int64_t, Place>, Watches> watches_;
};

}  // namespace troupe::simulator
