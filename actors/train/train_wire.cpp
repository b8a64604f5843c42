#include "actors/train/train_wire.h"

#include "runtime/wire/capnp.h"
// After the shim in capnp.h.
#include "actors/train/train.capnp.h"

namespace troupe::train {
namespace {

template <class Schema, class Fill>
wire::Body body_of(Fill&& fill) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<Schema>());
  return wire::to_body(message);
}

std::string to_string(capnp::Text::Reader text) { return {text.begin(), text.size()}; }

void set_failure(schema::RankFailure::Builder to, const RankFailure& failure) {
  to.setKind(failure.kind);
  to.setMessage(failure.message);
}

RankFailure to_failure(schema::RankFailure::Reader from) { return {from.getKind(), to_string(from.getMessage())}; }

}  // namespace

wire::Body encode(const RankAssignment& m) {
  return body_of<schema::RankAssignment>([&](auto to) {
    to.setConfig(m.config);
    to.setConfigPath(m.config_path);
    to.setOut(m.out);
    to.setGeneration(m.generation);
    to.setPeakFlops(m.peak_flops);
    to.setTokenizerFingerprint(m.tokenizer_fingerprint);
    to.setDataFingerprint(m.data_fingerprint);
  });
}

wire::Body encode(const RankReady& m) {
  return body_of<schema::RankReady>([&](auto to) {
    set_failure(to.initFailure(), m.failure);
    to.setParameters(m.parameters);
    to.setDevice(m.device);
  });
}

wire::Body encode(const RankLoaded& m) {
  return body_of<schema::RankLoaded>([&](auto to) {
    set_failure(to.initFailure(), m.failure);
    to.setCompleted(m.completed);
  });
}

wire::Body encode(const CheckpointFolder& m) {
  return body_of<schema::CheckpointFolder>([&](auto to) { to.setFolder(m.folder); });
}

wire::Body encode(const StepPlan& m) {
  return body_of<schema::StepPlan>([&](auto to) {
    to.setFirstStep(m.first_step);
    to.setLastStep(m.last_step);
  });
}

wire::Body encode(const PlanReport& m) {
  return body_of<schema::PlanReport>([&](auto to) {
    set_failure(to.initFailure(), m.failure);
    to.setCompleted(m.completed);
    to.setInterrupted(m.interrupted);
  });
}

wire::Body encode(const RankJoined& m) {
  return body_of<schema::RankJoined>([&](auto to) {
    to.setRank(m.rank);
    to.setGeneration(m.generation);
    to.setPid(m.pid);
    to.setNode(m.node);
    to.setTrainer(m.trainer);
  });
}

wire::Body encode(const MetricsLine& m) {
  return body_of<schema::MetricsLine>([&](auto to) {
    to.setStep(m.step);
    to.setLoss(m.loss);
    to.setTokens(m.tokens);
    to.setTokensPerSecond(m.tokens_per_second);
    to.setStepSeconds(m.step_seconds);
    to.setGradientNorm(m.gradient_norm);
    to.setLearningRate(m.learning_rate);
    to.setMfu(m.mfu);
    to.setGeneration(m.generation);
    to.setHasValidationLoss(m.validation_loss.has_value());
    to.setValidationLoss(m.validation_loss.value_or(0));
    to.setHasValidationBitsPerByte(m.validation_bits_per_byte.has_value());
    to.setValidationBitsPerByte(m.validation_bits_per_byte.value_or(0));
  });
}

wire::Body encode(const StagedCheckpoint& m) {
  return body_of<schema::StagedCheckpoint>([&](auto to) {
    to.setStep(m.step);
    to.setGeneration(m.generation);
    to.setTemporary(m.temporary);
    to.setFolder(m.folder);
  });
}

wire::Body encode(const TracePiece& m) {
  return body_of<schema::TracePiece>([&](auto to) {
    to.setLines(m.lines);
    to.setLost(m.lost);
  });
}

template <>
Result<RankAssignment> decode(const wire::Body& body) {
  return wire::from_body<schema::RankAssignment>(body, [](auto from) -> Result<RankAssignment> {
    return RankAssignment{to_string(from.getConfig()), to_string(from.getConfigPath()),
                          to_string(from.getOut()),    from.getGeneration(),
                          from.getPeakFlops(),         to_string(from.getTokenizerFingerprint()),
                          from.getDataFingerprint()};
  });
}

template <>
Result<RankReady> decode(const wire::Body& body) {
  return wire::from_body<schema::RankReady>(body, [](auto from) -> Result<RankReady> {
    return RankReady{to_failure(from.getFailure()), from.getParameters(), to_string(from.getDevice())};
  });
}

template <>
Result<RankLoaded> decode(const wire::Body& body) {
  return wire::from_body<schema::RankLoaded>(body, [](auto from) -> Result<RankLoaded> {
    return RankLoaded{to_failure(from.getFailure()), from.getCompleted()};
  });
}

template <>
Result<CheckpointFolder> decode(const wire::Body& body) {
  return wire::from_body<schema::CheckpointFolder>(
      body, [](auto from) -> Result<CheckpointFolder> { return CheckpointFolder{to_string(from.getFolder())}; });
}

template <>
Result<StepPlan> decode(const wire::Body& body) {
  return wire::from_body<schema::StepPlan>(
      body, [](auto from) -> Result<StepPlan> { return StepPlan{from.getFirstStep(), from.getLastStep()}; });
}

template <>
Result<PlanReport> decode(const wire::Body& body) {
  return wire::from_body<schema::PlanReport>(body, [](auto from) -> Result<PlanReport> {
    return PlanReport{to_failure(from.getFailure()), from.getCompleted(), from.getInterrupted()};
  });
}

template <>
Result<RankJoined> decode(const wire::Body& body) {
  return wire::from_body<schema::RankJoined>(body, [](auto from) -> Result<RankJoined> {
    return RankJoined{from.getRank(), from.getGeneration(), from.getPid(), from.getNode(), from.getTrainer()};
  });
}

template <>
Result<MetricsLine> decode(const wire::Body& body) {
  return wire::from_body<schema::MetricsLine>(body, [](auto from) -> Result<MetricsLine> {
    MetricsLine line;
    line.step = from.getStep();
    line.loss = from.getLoss();
    line.tokens = from.getTokens();
    line.tokens_per_second = from.getTokensPerSecond();
    line.step_seconds = from.getStepSeconds();
    line.gradient_norm = from.getGradientNorm();
    line.learning_rate = from.getLearningRate();
    line.mfu = from.getMfu();
    line.generation = from.getGeneration();
    if (from.getHasValidationLoss()) line.validation_loss = from.getValidationLoss();
    if (from.getHasValidationBitsPerByte()) line.validation_bits_per_byte = from.getValidationBitsPerByte();
    return line;
  });
}

template <>
Result<TracePiece> decode(const wire::Body& body) {
  return wire::from_body<schema::TracePiece>(
      body, [](auto from) -> Result<TracePiece> { return TracePiece{to_string(from.getLines()), from.getLost()}; });
}

template <>
Result<StagedCheckpoint> decode(const wire::Body& body) {
  return wire::from_body<schema::StagedCheckpoint>(body, [](auto from) -> Result<StagedCheckpoint> {
    return StagedCheckpoint{from.getStep(), from.getGeneration(), to_string(from.getTemporary()),
                            to_string(from.getFolder())};
  });
}

}  // namespace troupe::train
