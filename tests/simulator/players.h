// The actors of the simulated clusters: families of workers that fail, and clients that ask, tell, watch and stop
// them wherever they are. Each writes into the ledger what it does and what is done to it.
#pragma once
#include <map>

#include "runtime/actor/linking.h"
#include "runtime/actor/waiting.h"
#include "tests/simulator/ledger.h"

namespace troupe::simulator {

// What clients say to workers: the next message of a stream.
struct Numbered {
  int64_t stream = 0, number = 0, value = 0;
};

struct FamilySpec {
  std::string name;
  actor::Supervision supervision = {};
  int workers = 2;
  int mailbox = 64;
  nanoseconds stops_in{0};  // what a worker's on_stop takes
  std::vector<FamilySpec> families = {};
};

// Writes down its birth and its end.
class Player : public actor::Actor {
 public:
  Player(Ledger& ledger, int64_t parent, const std::string& name) : ledger_(ledger), life_(ledger.born(parent, name)) {}
  ~Player() override { ledger_.gone(life_); }
  actor::Task<void> on_start() override;
  actor::Task<void> on_stop() override;
  int64_t life() const { return life_; }

 protected:
  Ledger& ledger_;
  const int64_t life_;
};

class Worker final : public Player {
 public:
  Worker(Ledger* ledger, int64_t parent, std::string name, nanoseconds stops_in)
      : Player(*ledger, parent, name), stops_in_(stops_in) {}

  // Answers with 2 · value + 1.
  Result<int64_t> answer(Numbered message);
  // The same, after `value` microseconds.
  actor::Task<Result<int64_t>> answer_later(Numbered message);
  void note(Numbered message);
  void fails(Numbered message);
  void ends(Numbered message);
  actor::Task<void> on_stop() override;

  using Protocol = actor::Methods<&Worker::answer, &Worker::answer_later, &Worker::note, &Worker::fails, &Worker::ends>;

 private:
  const nanoseconds stops_in_;
};

// "node/family/worker-2" is registered under its name.
class Family final : public Player {
 public:
  Family(Ledger* ledger, int64_t parent, FamilySpec spec)
      : Player(*ledger, parent, spec.name), spec_(std::move(spec)) {}
  actor::Task<void> on_start() override;

 private:
  const FamilySpec spec_;
};

// Keeps its node linked to all nodes that started before it: those dial nobody else.
class Dialer final : public actor::Actor {
 public:
  explicit Dialer(Simulation& simulation) : simulation_(simulation) {}
  actor::Task<void> on_start() override;
  actor::Task<void> dial();

 private:
  Simulation& simulation_;
};

struct ClientSpec {
  std::string name;
  int number = 0;
  nanoseconds think{0};        // between two deeds, on average
  double fails = 0, ends = 0;  // chances of a deed
};

class Client final : public Player {
 public:
  // `names` outlive it.
  Client(Ledger& ledger, ClientSpec spec, const std::vector<std::string>& names)
      : Player(ledger, 0, spec.name),
        spec_(std::move(spec)),
        names_(names),
        random_(ledger.simulation().random(spec_.name + std::to_string(spec_.number))) {}
  actor::Task<void> on_start() override;
  void down(actor::Down down) { ledger_.told(life_, down); }
  // Does this and that until the ledger says that all is quiet.
  actor::Task<void> live();
  // Whether the anchors of all nodes, or everyone there is, can be found, hear and answer.
  actor::Task<void> visit(bool everyone);

 private:
  struct Known {
    actor::Ref<Worker> worker;
    Place place;
    int64_t stream = 0;
  };
  actor::Task<Result<Known>> find(uint64_t node, const std::string& name);
  actor::Task<void> one_deed();
  Known* somebody();
  Numbered next(const Known& whom, int64_t value);
  template <auto M>
  actor::Task<void> ask(Known whom, int64_t value, nanoseconds deadline);
  template <auto M>
  actor::Task<void> tell(Known whom, int64_t value);
  void burst(const Known& whom);
  nanoseconds slack() const;

  const ClientSpec spec_;
  const std::vector<std::string>& names_;  // of workers, on every node
  RandomStream random_;
  std::map<Place, Known> known_;
};

// All names that workers of a family have.
std::vector<std::string> names_of(const FamilySpec& family);

}  // namespace troupe::simulator

namespace troupe::actor {

template <>
struct Wire<simulator::Numbered> {
  static net::Body encode(const simulator::Numbered& message) {
    return BytesWriter()
        .number(static_cast<uint64_t>(message.stream))
        .number(static_cast<uint64_t>(message.number))
        .number(static_cast<uint64_t>(message.value))
        .take();
  }
  static Result<simulator::Numbered> decode(const net::Body& body) {
    BytesReader reader(body);
    simulator::Numbered message;
    for (int64_t* field : {&message.stream, &message.number, &message.value})
      *field = static_cast<int64_t>(reader.number());
    if (!reader.complete()) return failed("a malformed numbered message");
    return message;
  }
};

}  // namespace troupe::actor
