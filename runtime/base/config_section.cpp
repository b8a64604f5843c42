// The readers: each finds its key's node, checks type and range, and records what holds afterwards.
#include <algorithm>
#include <cmath>
#include <concepts>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/config.h"
#include "runtime/base/config_tree.h"
#include "runtime/base/json.h"

namespace troupe {
namespace {

// The value as a message shows it.
std::string shown(const ConfigNode& node) {
  std::string text;
  switch (node.kind) {
    case ConfigKind::boolean: return node.boolean ? "true" : "false";
    case ConfigKind::integer: return fmt::format("{}", node.integer);
    case ConfigKind::floating:
      if (!std::isfinite(node.floating)) return fmt::format("{}", node.floating);
      append_json_number(text, node.floating);
      return text;
    case ConfigKind::string: append_json_string(text, node.string); return text;
    default: return "";  // not shown
  }
}

std::string_view kind_name(ConfigKind kind) {
  switch (kind) {
    case ConfigKind::boolean: return "a boolean";
    case ConfigKind::integer: return "an integer";
    case ConfigKind::floating: return "a float";
    case ConfigKind::string: return "a string";
    case ConfigKind::moment: return "a date or time";
    case ConfigKind::list: return "a list";
    case ConfigKind::table: return "a section";
  }
  return "";
}

std::string wrong_type(const ConfigNode& node, std::string_view path, std::string_view wanted) {
  const std::string text = shown(node);
  return fmt::format("{}{}{} is {}; {} is wanted", path, text.empty() ? "" : " = ", text, kind_name(node.kind), wanted);
}

std::string range_text(const ConfigRule& rule) {
  const bool low = std::isfinite(rule.low), high = std::isfinite(rule.high);
  if (low && high && !rule.low_excluded && !rule.high_excluded) {
    return fmt::format("{} to {} is wanted", rule.low, rule.high);
  }
  const std::string low_text = fmt::format("{} {}", rule.low_excluded ? "above" : "at least", rule.low);
  const std::string high_text = fmt::format("{} {}", rule.high_excluded ? "below" : "at most", rule.high);
  return fmt::format("{}{}{} is wanted", low ? low_text : "", low && high ? " and " : "", high ? high_text : "");
}

bool in_range(double number, const ConfigRule& rule) {
  return (rule.low_excluded ? number > rule.low : number >= rule.low) &&
         (rule.high_excluded ? number < rule.high : number <= rule.high);
}

// convert() sets the value and returns "", or leaves it and returns what is wrong with the node.
std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule&, bool& value) {
  if (node.kind != ConfigKind::boolean) return wrong_type(node, path, "true or false");
  value = node.boolean;
  return "";
}

template <std::integral Integer>
std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule& rule, Integer& value) {
  if (node.kind != ConfigKind::integer) return wrong_type(node, path, "an integer");
  if (!in_range(static_cast<double>(node.integer), rule)) {
    return fmt::format("{} = {}; {}", path, node.integer, range_text(rule));
  }
  if (!std::in_range<Integer>(node.integer)) {
    using Limits = std::numeric_limits<Integer>;
    return node.integer < 0 ? fmt::format("{} = {}; at least {} is wanted", path, node.integer, Limits::min())
                            : fmt::format("{} = {}; at most {} is wanted", path, node.integer, Limits::max());
  }
  value = static_cast<Integer>(node.integer);
  return "";
}

std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule& rule, double& value) {
  if (node.kind != ConfigKind::floating && node.kind != ConfigKind::integer) return wrong_type(node, path, "a number");
  const double number = node.kind == ConfigKind::integer ? static_cast<double>(node.integer) : node.floating;
  if (!std::isfinite(number)) return fmt::format("{} = {}; a finite number is wanted", path, shown(node));
  if (!in_range(number, rule)) return fmt::format("{} = {}; {}", path, shown(node), range_text(rule));
  value = number;
  return "";
}

std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule& rule, float& value) {
  double number = 0;
  std::string wrong = convert(node, path, rule, number);
  if (!wrong.empty()) return wrong;
  // Rounding to 32 bits must not land on a bound that is excluded, e.g. make 1 of a decay below 1.
  const double rounded = static_cast<double>(static_cast<float>(number));
  if (!std::isfinite(rounded) || (rule.low_excluded && rounded <= rule.low) ||
      (rule.high_excluded && rounded >= rule.high)) {
    return fmt::format("{} = {} does not fit a 32-bit float", path, shown(node));
  }
  value = static_cast<float>(number);
  return "";
}

std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule&, std::string& value) {
  const bool scalar =
      node.kind == ConfigKind::boolean || node.kind == ConfigKind::integer || node.kind == ConfigKind::floating;
  if (node.kind != ConfigKind::string && !(scalar && !node.string.empty())) return wrong_type(node, path, "a string");
  value = node.string;
  return "";
}

template <class T>
std::string convert(const ConfigNode& node, std::string_view path, const ConfigRule& rule, std::vector<T>& value) {
  std::vector<T> elements;
  const bool is_list = node.kind == ConfigKind::list;
  for (size_t i = 0; i < (is_list ? node.children.size() : 1); ++i) {
    T element{};
    std::string wrong = is_list ? convert(node.children[i], fmt::format("{}[{}]", path, i), rule, element)
                                : convert(node, path, rule, element);
    if (!wrong.empty()) return wrong;
    elements.push_back(std::move(element));
  }
  value = std::move(elements);
  return "";
}

template <class T>
void read_value(ConfigState& state, const std::string& path, T& value, const ConfigRule& rule) {
  state.ask(path);
  if (const ConfigNode* node = state.find(path)) {
    if (const std::string wrong = convert(*node, path, rule, value); !wrong.empty()) state.complain(node, wrong);
  } else if (rule.required) {
    state.complain(nullptr, fmt::format("{}: key \"{}\" is required", state.name, path));
  }
  if constexpr (std::is_same_v<T, int32_t> || std::is_same_v<T, uint64_t>) {
    state.record(path, static_cast<int64_t>(value));
  } else {
    state.record(path, value);
  }
}

}  // namespace

ConfigRule ConfigRule::operator&(const ConfigRule& other) const {
  ConfigRule both = *this;
  if (other.low > low || (other.low == low && other.low_excluded)) {
    both.low = other.low;
    both.low_excluded = other.low_excluded;
  }
  if (other.high < high || (other.high == high && other.high_excluded)) {
    both.high = other.high;
    both.high_excluded = other.high_excluded;
  }
  both.required = required || other.required;
  return both;
}

std::string ConfigSection::path_of(std::string_view key) const { return join_config_path(path_, key); }

bool ConfigSection::has(std::string_view key) const {
  const std::string path = path_of(key);
  state_->ask(path);
  return state_->find(path) != nullptr;
}

ConfigSection& ConfigSection::read(std::string_view key, bool& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, int32_t& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, int64_t& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, uint64_t& value, ConfigRule rule) {
  TROUPE_CHECK(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "default {} of {}", value, key);
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, float& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, double& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, std::string& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, std::vector<int64_t>& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, std::vector<double>& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}
ConfigSection& ConfigSection::read(std::string_view key, std::vector<std::string>& value, ConfigRule rule) {
  read_value(*state_, path_of(key), value, rule);
  return *this;
}

ConfigSection& ConfigSection::read_or_auto(std::string_view key, std::optional<int32_t>& value, ConfigRule rule) {
  const std::string path = path_of(key);
  const ConfigNode* node = state_->find(path);
  if (node && node->kind == ConfigKind::string) {
    if (node->string == "auto") value.reset();
    else state_->complain(node, wrong_type(*node, path, "an integer or \"auto\""));
  } else if (node || value || rule.required) {
    int32_t number = value.value_or(0);
    const size_t before = state_->complaints.size();
    read(key, number, rule);
    if (node ? state_->complaints.size() == before : value.has_value()) value = number;
  }
  state_->record(path, value ? ConfigValue(int64_t{*value}) : ConfigValue(std::string("auto")));
  return *this;
}

void ConfigSection::choose(std::string_view key, size_t& index, const std::vector<std::string_view>& names,
                           const ConfigRule& rule) {
  const std::string path = path_of(key);
  std::string word(index < names.size() ? names[index] : "");
  const size_t before = state_->complaints.size();
  read(key, word, rule);
  const auto found = std::find(names.begin(), names.end(), word);
  if (found != names.end()) {
    index = static_cast<size_t>(found - names.begin());
  } else if (state_->find(path) && state_->complaints.size() == before) {
    std::string wanted;
    for (size_t i = 0; i < names.size(); ++i) {
      wanted += fmt::format("{}\"{}\"", i == 0 ? "" : i + 1 == names.size() ? " or " : ", ", names[i]);
    }
    state_->complain(state_->find(path), fmt::format("{} = \"{}\"; {} is wanted", path, word, wanted));
  }
}

ConfigSection& ConfigSection::read_choice(std::string_view key, std::string& value,
                                          std::initializer_list<std::string_view> words, ConfigRule rule) {
  const std::vector<std::string_view> names = words;
  auto index = static_cast<size_t>(std::find(names.begin(), names.end(), value) - names.begin());
  choose(key, index, names, rule);
  if (index < names.size()) value = names[index];
  return *this;
}

ConfigSection ConfigSection::section(std::string_view key) const {
  const std::string path = path_of(key);
  const ConfigNode* node = state_->find(path);
  if (state_->sections.insert(path).second && node && node->kind != ConfigKind::table) {
    state_->complain(node, wrong_type(*node, path, fmt::format("a section [{}]", path)));
  }
  return {state_, path};
}

std::vector<ConfigSection> ConfigSection::tables(std::string_view key) const {
  const std::string path = path_of(key);
  const ConfigNode* node = state_->find(path);
  const bool first = state_->lists.insert(path).second;
  std::vector<ConfigSection> found;
  if (!node) return found;
  if (node->kind != ConfigKind::list) {
    if (first) state_->complain(node, wrong_type(*node, path, fmt::format("a list of tables [[{}]]", path)));
    return found;
  }
  for (size_t i = 0; i < node->children.size(); ++i) {
    const std::string element = fmt::format("{}[{}]", path, i);
    if (node->children[i].kind == ConfigKind::table) {
      found.push_back({state_, element});
    } else if (first) {
      state_->complain(&node->children[i], wrong_type(node->children[i], element, "a table"));
    }
  }
  return found;
}

}  // namespace troupe
