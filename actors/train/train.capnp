# What head, agent and ranks of a training run say to each other (train_messages.h has units and meaning).
@0xc8ffffe01173a966;
using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("troupe::train::schema");

struct RankAssignment {
  config @0 :Text;
  configPath @1 :Text;
  out @2 :Text;
  generation @3 :Int64;
  peakFlops @4 :Float64;
  tokenizerFingerprint @5 :Text;
  dataFingerprint @6 :UInt64;
}

struct RankFailure {
  kind @0 :Int32;
  message @1 :Text;
}

struct RankReady {
  failure @0 :RankFailure;
  parameters @1 :Int64;
  device @2 :Text;
}

struct RankLoaded {
  failure @0 :RankFailure;
  completed @1 :Int64;
}

struct CheckpointFolder {
  folder @0 :Text;
}

struct StepPlan {
  firstStep @0 :Int64;
  lastStep @1 :Int64;
}

struct PlanReport {
  failure @0 :RankFailure;
  completed @1 :Int64;
  interrupted @2 :Bool;
}

struct RankJoined {
  rank @0 :Int64;
  generation @1 :Int64;
  pid @2 :Int64;
  node @3 :UInt64;
  trainer @4 :UInt64;
}

struct MetricsLine {
  step @0 :Int64;
  loss @1 :Float64;
  tokens @2 :Int64;
  tokensPerSecond @3 :Float64;
  stepSeconds @4 :Float64;
  gradientNorm @5 :Float64;
  learningRate @6 :Float64;
  mfu @7 :Float64;
  generation @8 :Int64;
  hasValidationLoss @9 :Bool;
  validationLoss @10 :Float64;
  hasValidationBitsPerByte @11 :Bool;
  validationBitsPerByte @12 :Float64;
  hasBalanceLoss @13 :Bool;
  balanceLoss @14 :Float64;
  hasZLoss @15 :Bool;
  zLoss @16 :Float64;
  hasExpertLoadEntropy @17 :Bool;
  expertLoadEntropy @18 :Float64;
}

struct TracePiece {
  lines @0 :Text;
  lost @1 :Int64;
}

struct StagedCheckpoint {
  step @0 :Int64;
  generation @1 :Int64;
  temporary @2 :Text;
  folder @3 :Text;
}
