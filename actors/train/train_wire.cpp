// Each message has one list of its fields: what stands in train.capnp under a name, and where it is in the struct.
#include "actors/train/train_wire.h"

#include <tuple>

#include "runtime/wire/capnp.h"
// After the shim in capnp.h.
#include <capnp/dynamic.h>

#include "actors/train/train.capnp.h"

namespace troupe::train {
namespace {

using capnp::DynamicStruct;

template <class M, class T>
struct Field {
  const char* name;
  T M::* member;
};

template <class M>
struct Layout;

template <>
struct Layout<RankFailure> {
  using Schema = schema::RankFailure;
  static constexpr std::tuple kFields{Field{"kind", &RankFailure::kind}, Field{"message", &RankFailure::message}};
};

template <>
struct Layout<RankAssignment> {
  using Schema = schema::RankAssignment;
  static constexpr std::tuple kFields{Field{"config", &RankAssignment::config},
                                      Field{"configPath", &RankAssignment::config_path},
                                      Field{"out", &RankAssignment::out},
                                      Field{"generation", &RankAssignment::generation},
                                      Field{"peakFlops", &RankAssignment::peak_flops},
                                      Field{"tokenizerFingerprint", &RankAssignment::tokenizer_fingerprint},
                                      Field{"dataFingerprint", &RankAssignment::data_fingerprint}};
};

template <>
struct Layout<RankReady> {
  using Schema = schema::RankReady;
  static constexpr std::tuple kFields{Field{"failure", &RankReady::failure},
                                      Field{"parameters", &RankReady::parameters}, Field{"device", &RankReady::device}};
};

template <>
struct Layout<RankLoaded> {
  using Schema = schema::RankLoaded;
  static constexpr std::tuple kFields{Field{"failure", &RankLoaded::failure},
                                      Field{"completed", &RankLoaded::completed}};
};

template <>
struct Layout<CheckpointFolder> {
  using Schema = schema::CheckpointFolder;
  static constexpr std::tuple kFields{Field{"folder", &CheckpointFolder::folder}};
};

template <>
struct Layout<StepPlan> {
  using Schema = schema::StepPlan;
  static constexpr std::tuple kFields{Field{"firstStep", &StepPlan::first_step},
                                      Field{"lastStep", &StepPlan::last_step}};
};

template <>
struct Layout<PlanReport> {
  using Schema = schema::PlanReport;
  static constexpr std::tuple kFields{Field{"failure", &PlanReport::failure},
                                      Field{"completed", &PlanReport::completed},
                                      Field{"interrupted", &PlanReport::interrupted}};
};

template <>
struct Layout<RankJoined> {
  using Schema = schema::RankJoined;
  static constexpr std::tuple kFields{Field{"rank", &RankJoined::rank}, Field{"generation", &RankJoined::generation},
                                      Field{"pid", &RankJoined::pid}, Field{"node", &RankJoined::node},
                                      Field{"trainer", &RankJoined::trainer}};
};

template <>
struct Layout<MetricsLine> {
  using Schema = schema::MetricsLine;
  static constexpr std::tuple kFields{Field{"step", &MetricsLine::step},
                                      Field{"loss", &MetricsLine::loss},
                                      Field{"tokens", &MetricsLine::tokens},
                                      Field{"tokensPerSecond", &MetricsLine::tokens_per_second},
                                      Field{"stepSeconds", &MetricsLine::step_seconds},
                                      Field{"gradientNorm", &MetricsLine::gradient_norm},
                                      Field{"learningRate", &MetricsLine::learning_rate},
                                      Field{"mfu", &MetricsLine::mfu},
                                      Field{"generation", &MetricsLine::generation},
                                      Field{"validationLoss", &MetricsLine::validation_loss},
                                      Field{"validationBitsPerByte", &MetricsLine::validation_bits_per_byte},
                                      Field{"balanceLoss", &MetricsLine::balance_loss},
                                      Field{"zLoss", &MetricsLine::z_loss},
                                      Field{"expertLoadEntropy", &MetricsLine::expert_load_entropy}};
};

template <>
struct Layout<StagedCheckpoint> {
  using Schema = schema::StagedCheckpoint;
  static constexpr std::tuple kFields{
      Field{"step", &StagedCheckpoint::step}, Field{"generation", &StagedCheckpoint::generation},
      Field{"temporary", &StagedCheckpoint::temporary}, Field{"folder", &StagedCheckpoint::folder}};
};

template <>
struct Layout<TracePiece> {
  using Schema = schema::TracePiece;
  static constexpr std::tuple kFields{Field{"lines", &TracePiece::lines}, Field{"lost", &TracePiece::lost}};
};

// "validationLoss" → "hasValidationLoss": whether a value that may be missing is there.
std::string flag_of(std::string name) {
  name[0] = static_cast<char>(name[0] - 'a' + 'A');
  return "has" + name;
}

// --- To and from fields of a schema, by the type of the struct's member.

template <class T>
  requires std::is_arithmetic_v<T>
void set(DynamicStruct::Builder to, const char* name, T value) {
  to.set(name, value);
}
template <class T>
  requires std::is_arithmetic_v<T>
void get(DynamicStruct::Reader from, const char* name, T& value) {
  value = from.get(name).as<T>();
}

void set(DynamicStruct::Builder to, const char* name, const std::string& text) {
  to.set(name, capnp::Text::Reader(text.data(), text.size()));
}
void get(DynamicStruct::Reader from, const char* name, std::string& text) {
  const auto read = from.get(name).as<capnp::Text>();
  text.assign(read.begin(), read.size());
}

void set(DynamicStruct::Builder to, const char* name, const std::optional<double>& value) {
  to.set(flag_of(name).c_str(), value.has_value());
  to.set(name, value.value_or(0));
}
void get(DynamicStruct::Reader from, const char* name, std::optional<double>& value) {
  if (from.get(flag_of(name).c_str()).as<bool>()) value = from.get(name).as<double>();
}

template <class M>
void set_all(DynamicStruct::Builder to, const M& message);
template <class M>
void get_all(DynamicStruct::Reader from, M& message);

void set(DynamicStruct::Builder to, const char* name, const RankFailure& failure) {
  set_all(to.init(name).as<DynamicStruct>(), failure);
}
void get(DynamicStruct::Reader from, const char* name, RankFailure& failure) {
  get_all(from.get(name).as<DynamicStruct>(), failure);
}

template <class M>
void set_all(DynamicStruct::Builder to, const M& message) {
  std::apply([&](const auto&... field) { (set(to, field.name, message.*field.member), ...); }, Layout<M>::kFields);
}
template <class M>
void get_all(DynamicStruct::Reader from, M& message) {
  std::apply([&](const auto&... field) { (get(from, field.name, message.*field.member), ...); }, Layout<M>::kFields);
}

template <class M>
wire::Body body_of(const M& message) {
  capnp::MallocMessageBuilder builder;
  set_all(DynamicStruct::Builder(builder.initRoot<typename Layout<M>::Schema>()), message);
  return wire::to_body(builder);
}

template <class M>
Result<M> message_of(const wire::Body& body) {
  return wire::from_body<typename Layout<M>::Schema>(body, [](auto from) -> Result<M> {
    M message;
    get_all(DynamicStruct::Reader(from), message);
    return message;
  });
}

}  // namespace

wire::Body encode(const RankAssignment& m) { return body_of(m); }
wire::Body encode(const RankReady& m) { return body_of(m); }
wire::Body encode(const RankLoaded& m) { return body_of(m); }
wire::Body encode(const CheckpointFolder& m) { return body_of(m); }
wire::Body encode(const StepPlan& m) { return body_of(m); }
wire::Body encode(const PlanReport& m) { return body_of(m); }
wire::Body encode(const RankJoined& m) { return body_of(m); }
wire::Body encode(const MetricsLine& m) { return body_of(m); }
wire::Body encode(const StagedCheckpoint& m) { return body_of(m); }
wire::Body encode(const TracePiece& m) { return body_of(m); }

template <class T>
Result<T> decode(const wire::Body& body) {
  return message_of<T>(body);
}
template Result<RankAssignment> decode(const wire::Body&);
template Result<RankReady> decode(const wire::Body&);
template Result<RankLoaded> decode(const wire::Body&);
template Result<CheckpointFolder> decode(const wire::Body&);
template Result<StepPlan> decode(const wire::Body&);
template Result<PlanReport> decode(const wire::Body&);
template Result<RankJoined> decode(const wire::Body&);
template Result<MetricsLine> decode(const wire::Body&);
template Result<StagedCheckpoint> decode(const wire::Body&);
template Result<TracePiece> decode(const wire::Body&);

}  // namespace troupe::train
