#include "launcher/commands/figures.h"

#include <algorithm>
#include <cstdio>

#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

std::string text_of(const Goal& goal) {
  if (goal.kind == Goal::Kind::none) return "";
  return fmt::format("{} {:g}", goal.kind == Goal::Kind::at_most ? "<=" : ">=", goal.value);
}

void print(const Figure& f) {
  fmt::print("{:<52}{:>12.4g}{:>12.4g}  {:<12}{:>10}{}\n", f.name, f.median, f.best, f.unit, text_of(f.goal),
             f.met() ? "" : "  missed");
  std::fflush(stdout);
}

}  // namespace

bool Figure::met() const {
  switch (goal.kind) {
    case Goal::Kind::at_most: return median <= goal.value;
    case Goal::Kind::at_least: return median >= goal.value;
    default: return true;
  }
}

void Figures::keep(const What& what, std::vector<double> values) {
  std::ranges::sort(values);
  figures_.push_back({what.name, what.unit, values[values.size() / 2], what.is_rate ? values.back() : values.front(),
                      what.goal, static_cast<int>(values.size())});
  if (!prints_) return;
  if (figures_.size() == 1) fmt::print("{:<52}{:>12}{:>12}  {:<12}{:>10}\n", "", "median", "best", "unit", "goal");
  print(figures_.back());
}

void Figures::skip(std::string name, std::string why) {
  if (prints_) fmt::print("{:<52}not measured: {}\n", name, why);
  skipped_.push_back({std::move(name), std::move(why)});
}

Status Figures::add(const What& what, int repetitions, const Measure& measure) {
  std::vector<double> values;
  for (int i = -1; i < repetitions; ++i) {
    auto value = measure();
    if (!value.ok() && value.error().kind() == ErrorKind::environment) {
      skip(what.name, value.error().message());
      return {};
    }
    if (!value.ok()) return std::move(value).error().within(what.name);
    if (i >= 0) values.push_back(*value);
  }
  keep(what, std::move(values));
  return {};
}

Status Figures::compare(const What& what, const Measure& ours, const Peer& peer) {
  std::vector<double> our_values, their_values, ratios;
  for (int i = -1; i < repetitions_; ++i) {
    auto our = ours();
    if (!our.ok()) return std::move(our).error().within(what.name);
    auto their = peer.measure();
    if (!their.ok() && their.error().kind() == ErrorKind::environment) {
      skip(what.name + ": " + peer.name, their.error().message());
      return add(what, ours);
    }
    if (!their.ok()) return std::move(their).error().within(what.name + ": " + peer.name);
    if (i < 0) continue;
    our_values.push_back(*our);
    their_values.push_back(*their);
    ratios.push_back(what.is_rate ? *our / *their : *their / *our);
  }
  keep(what, std::move(our_values));
  keep({what.name + ": " + peer.name, what.unit, kNoGoal, what.is_rate}, std::move(their_values));
  keep({fmt::format("{}: ours to {}", what.name, peer.name), "x", peer.goal, true}, std::move(ratios));
  return {};
}

void Figures::write(JsonWriter& out) const {
  out.key("figures").begin_array();
  for (const Figure& f : figures_) {
    out.begin_object().field("name", f.name).field("unit", f.unit).field("median", f.median).field("best", f.best);
    if (f.goal.kind != Goal::Kind::none) {
      out.field(f.goal.kind == Goal::Kind::at_most ? "at_most" : "at_least", f.goal.value).field("met", f.met());
    }
    out.field("repetitions", f.repetitions).end_object();
  }
  out.end_array().key("skipped").begin_array();
  for (const Skipped& s : skipped_) out.begin_object().field("name", s.name).field("why", s.why).end_object();
  out.end_array();
}

}  // namespace troupe::launcher
