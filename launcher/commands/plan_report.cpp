#include "launcher/commands/plan_report.h"

#include <array>

#include "runtime/base/human_format.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

using parallel::Plan;

std::string_view name_of(parallel::Recompute recompute) {
  constexpr std::array<std::string_view, 3> names{"none", "attention", "block"};
  return names[static_cast<size_t>(recompute)];
}

// What ranks of a group differ in.
std::string_view axes_of(parallel::Group group, const parallel::MeshSizes& mesh) {
  if (group == parallel::Group::replicas && mesh.context > 1) return "data × context";
  return parallel::name_of(group);
}

struct Share {
  std::string_view name, key;
  double seconds;
};

std::array<Share, 13> shares_of(const parallel::StepTime& t) {
  return {{{"matrix products", "products", t.products},
           {"attention", "attention", t.attention},
           {"norms, sums, activations", "memory", t.memory},
           {"starts of kernels", "launch", t.launch},
           {"tensor traffic", "tensor", t.tensor},
           {"context traffic", "context", t.context},
           {"expert traffic", "expert", t.expert},
           {"slowest stage", "imbalance", t.imbalance},
           {"pipeline bubble", "bubble", t.bubble},
           {"pipeline traffic", "pipeline", t.pipeline},
           {"data traffic", "data", t.data},
           {"optimizer", "optimizer", t.optimizer},
           {"slowest device", "stragglers", t.stragglers}}};
}

std::string bytes(double count) { return human_bytes(count); }
std::string bytes(int64_t count) { return human_bytes(static_cast<double>(count)); }

void add_memory(std::string& out, const Plan& plan, const parallel::DeviceSpec& device) {
  const auto& m = plan.memory;
  out +=
      fmt::format("memory     {} of {} a device{}: {}\n", bytes(m.total()), bytes(device.memory_bytes),
                  plan.layout.mesh.pipeline > 1 ? fmt::format(", stage {}, which holds most", plan.fullest_stage) : "",
                  plan.fits ? "fits" : "DOES NOT FIT");
  const std::pair<const char*, int64_t> kinds[] = {{"parameters", m.parameters},
                                                   {"gradients", m.gradients},
                                                   {"optimizer", m.optimizer},
                                                   {"activations", m.activations},
                                                   {"buffers", m.buffers}};
  for (const auto& [name, size] : kinds) out += fmt::format("           {:<26}{:>10}\n", name, bytes(size));
}

void add_time(std::string& out, const Plan& plan) {
  out += fmt::format("time       {} a step\n", human_duration(plan.step_seconds()));
  for (const Share& share : shares_of(plan.time)) {
    const double part = share.seconds / plan.step_seconds();
    if (part < 0.0005) continue;
    out += fmt::format("           {:<26}{:>10}{:>7.1f}%\n", share.name, human_duration(share.seconds), 100 * part);
  }
}

void add_traffic(std::string& out, const Plan& plan, const parallel::PlanTask& task) {
  const auto traffic =
      parallel::step_traffic(task.model, task.numerics, plan.layout, plan.shape, plan.recompute, plan.fullest_stage);
  if (traffic.empty()) return;
  out += fmt::format("traffic    {:<16}{:>6}  {:<15}{:<11}{:>10}{:>11}{:>12}\n", "sent by a rank", "ranks", "", "",
                     "operations", "each", "a step");
  for (const auto& t : traffic) {
    const auto links = parallel::links_of(task.device, plan.layout.mesh, t.group);
    out += fmt::format("           {:<16}{:>6}  {:<15}{:<11}{:>10.0f}{:>11}{:>12}\n",
                       axes_of(t.group, plan.layout.mesh), links.ranks, parallel::name_of(t.collective),
                       parallel::name_of(t.moment), t.count, bytes(t.bytes), bytes(t.bytes * t.count));
  }
}

void add_table(std::string& out, const parallel::PlanSearch& found, size_t ranks) {
  out += fmt::format("{} layouts of {} devices fit; the fastest of each mesh:\n\n", found.fitting, ranks);
  out += fmt::format("{:>4}{:>9}{:>9}{:>6}{:>8}{:>7}{:>7}{:>5}{:>6}  {:<9}{:>10}{:>9}{:>7}{:>8}\n", "", "pipeline",
                     "virtual", "data", "context", "tensor", "expert", "ZeRO", "micro", "recompute", "memory", "step",
                     "MFU", "bubble");
  int number = 0;
  for (const Plan& plan : found.best) {
    const auto& mesh = plan.layout.mesh;
    out +=
        fmt::format("{:>4}{:>9}{:>9}{:>6}{:>8}{:>7}{:>7}{:>5}{:>6}  {:<9}{:>10}{:>9}{:>6.1f}%{:>7.1f}%\n", ++number,
                    mesh.pipeline, plan.layout.virtual_stages, mesh.data, mesh.context, mesh.tensor, mesh.expert,
                    plan.layout.zero, plan.shape.micro_batch, name_of(plan.recompute), bytes(plan.memory.total()),
                    human_duration(plan.step_seconds()), 100 * plan.mfu, 100 * plan.time.bubble / plan.step_seconds());
  }
  out += "\n";
}

void write(JsonWriter& out, const Plan& plan, const parallel::PlanTask& task) {
  const auto& mesh = plan.layout.mesh;
  out.begin_object().key("layout").begin_object();
  for (parallel::Axis axis : {parallel::Axis::pipeline, parallel::Axis::data, parallel::Axis::context,
                              parallel::Axis::tensor, parallel::Axis::expert, parallel::Axis::expert_tensor})
    out.field(parallel::name_of(axis), mesh[axis]);
  out.field("zero", plan.layout.zero)
      .field("schedule", parallel::name_of(plan.layout.schedule))
      .field("virtual_stages", plan.layout.virtual_stages)
      .field("micro_batch", plan.shape.micro_batch)
      .field("microbatches", plan.shape.microbatches(mesh))
      .field("recompute", name_of(plan.recompute))
      .end_object();
  const auto& m = plan.memory;
  out.key("memory").begin_object();
  out.field("stage", plan.fullest_stage)
      .field("parameters", m.parameters)
      .field("gradients", m.gradients)
      .field("optimizer", m.optimizer)
      .field("activations", m.activations)
      .field("buffers", m.buffers)
      .field("total", m.total())
      .field("available", static_cast<int64_t>(task.device.memory_bytes))
      .field("fits", plan.fits)
      .end_object();
  out.key("seconds").begin_object();
  for (const Share& share : shares_of(plan.time)) out.field(share.key, share.seconds);
  out.end_object();
  const double ranks = mesh.ranks();
  out.field("step_seconds", plan.step_seconds())
      .field("tokens_per_second", plan.tokens_per_second())
      .field("mfu", plan.mfu)
      .field("mfu_full_attention", plan.mfu_full_attention)
      .field("bubble", plan.time.bubble / plan.step_seconds())
      .field("model_flops_per_gpu", parallel::model_flops(task.model, plan.shape) / ranks)
      .field("recomputed_flops_per_gpu", parallel::recomputed_flops(task.model, plan.shape, plan.recompute) / ranks);
  out.key("traffic").begin_array();
  for (const auto& t :
       parallel::step_traffic(task.model, task.numerics, plan.layout, plan.shape, plan.recompute, plan.fullest_stage)) {
    out.begin_object()
        .field("axis", axes_of(t.group, mesh))
        .field("ranks", parallel::links_of(task.device, mesh, t.group).ranks)
        .field("collective", parallel::name_of(t.collective))
        .field("moment", parallel::name_of(t.moment))
        .field("operations", t.count)
        .field("bytes_each", t.bytes)
        .field("bytes", t.bytes * t.count)
        .end_object();
  }
  out.end_array().end_object();
}

}  // namespace

std::string PlanReport::text(bool table) const {
  const Plan& plan = chosen();
  const auto& model = task.model;
  const auto& mesh = plan.layout.mesh;
  const double ranks = mesh.ranks();
  std::string out;
  if (table) add_table(out, found, static_cast<size_t>(mesh.ranks()));
  out += fmt::format("model      {} parameters: {} layers, width {}, {} heads, vocabulary {}{}\n",
                     human_count(static_cast<double>(model.parameters())), model.layers, model.width, model.heads,
                     model.vocabulary, model.experts.count > 0 ? fmt::format(", {} experts", model.experts.count) : "");
  out += fmt::format("devices    {} × {} ({}), {}\n", mesh.ranks(), task.device.name, task.device.description,
                     kernels::name_of(task.numerics.compute));
  out += fmt::format("layout     {}\n", plan.layout.to_string());
  out += fmt::format("batch      {} sequences × {} tokens: {} of {} on each rank; recompute {}\n", task.global_batch,
                     task.sequence_length,
                     plan.shape.microbatches(mesh) == 1 ? "1 microbatch"
                                                        : fmt::format("{} microbatches", plan.shape.microbatches(mesh)),
                     plan.shape.micro_batch, name_of(plan.recompute));
  out += fmt::format("speed      {} tokens/s, MFU {:.1f}% ({:.1f}% with attention counted in full)\n",
                     human_count(plan.tokens_per_second()), 100 * plan.mfu, 100 * plan.mfu_full_attention);
  const double again = parallel::recomputed_flops(model, plan.shape, plan.recompute) / ranks;
  out += fmt::format("work       {} FLOP a device and step{}\n",
                     human_count(parallel::model_flops(model, plan.shape) / ranks),
                     again > 0 ? fmt::format(", and {} recomputed", human_count(again)) : "");
  add_memory(out, plan, task.device);
  if (smaller) {
    out += fmt::format("           what fits: ZeRO {}, microbatch {}, recompute {}: {}, {} a step, MFU {:.1f}%\n",
                       smaller->layout.zero, smaller->shape.micro_batch, name_of(smaller->recompute),
                       bytes(smaller->memory.total()), human_duration(smaller->step_seconds()), 100 * smaller->mfu);
  }
  add_time(out, plan);
  add_traffic(out, plan, task);
  return out;
}

std::string PlanReport::json(bool table) const {
  JsonWriter out(2);
  out.begin_object()
      .field("config", config)
      .field("parameters", task.model.parameters())
      .field("device", task.device.name)
      .field("gpus", chosen().layout.mesh.ranks())
      .field("global_batch", task.global_batch)
      .field("sequence_length", task.sequence_length)
      .field("layouts_valid", found.valid)
      .field("layouts_fitting", found.fitting)
      .key("plan");
  write(out, chosen(), task);
  if (smaller) {
    out.key("what_fits");
    write(out, *smaller, task);
  }
  if (table) {
    out.key("best").begin_array();
    for (const Plan& plan : found.best) write(out, plan, task);
    out.end_array();
  }
  out.end_object();
  return out.text();
}

}  // namespace troupe::launcher
