#include "runtime/base/config.h"

#include <algorithm>

#include "runtime/base/config_tree.h"
#include "runtime/base/edit_distance.h"
#include "runtime/base/file.h"

namespace troupe {
namespace {

constexpr int64_t kLimitBytes = 16 << 20;  // longer, it is no config but a mistake

bool is_bare_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view last_key(std::string_view path) { return path.substr(path.rfind('.') + 1); }
std::string_view table_of(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? "" : path.substr(0, dot);
}

// `; did you mean "…"?`, or the valid names of the same table where none is near.
std::string suggestion(std::string_view path, const std::vector<std::string>& valid) {
  size_t nearest = std::string::npos;
  const std::string* best = nullptr;
  for (const std::string& candidate : valid) {
    size_t distance = edit_distance(path, candidate);
    if (last_key(candidate) == last_key(path)) distance = std::min<size_t>(distance, 1);
    if (distance < nearest) {
      nearest = distance;
      best = &candidate;
    }
  }
  if (best && nearest <= std::max<size_t>(2, last_key(path).size() / 3)) {
    return fmt::format("; did you mean \"{}\"?", *best);
  }
  std::string names;
  for (const std::string& candidate : valid) {
    if (table_of(candidate) != table_of(path)) continue;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", last_key(candidate));
  }
  return names.empty() ? "" : fmt::format("; valid here: {}", names);
}

}  // namespace

std::string join_config_path(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

ConfigNode* ConfigNode::child(std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? nullptr : &children[static_cast<size_t>(found - names.begin())];
}

const ConfigNode* ConfigState::find(std::string_view path) const {
  const ConfigNode* node = &root;
  while (node && !path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    std::string_view key = path.substr(0, dot);
    path.remove_prefix(std::min(dot + 1, path.size()));
    const size_t bracket = std::min(key.find('['), key.size());
    node = node->child(key.substr(0, bracket));
    if (bracket == key.size() || !node) continue;
    size_t index = 0;
    for (const char c : key.substr(bracket + 1, key.size() - bracket - 2)) {
      index = index * 10 + static_cast<size_t>(c - '0');
    }
    node = index < node->children.size() ? &node->children[index] : nullptr;
  }
  return node;
}

void ConfigState::ask(const std::string& path) {
  if (asked_index.emplace(path, asked.size()).second) asked.push_back({path, {}});
}

void ConfigState::record(const std::string& path, ConfigValue value) {
  ask(path);
  asked[asked_index.find(path)->second].value = std::move(value);
}

void ConfigState::complain(const ConfigNode* at, std::string_view message) {
  const std::tuple<int, int> place = !at             ? std::tuple(2, 0)
                                     : at->line == 0 ? std::tuple(1, 0)
                                                     : std::tuple(0, at->line);
  complaints.push_back({place, at ? fmt::format("{}: {}", at->origin, message) : std::string(message)});
}

void ConfigState::find_unknown(const ConfigNode& table, const std::string& path, std::vector<Complaint>& found) const {
  const auto unknown = [&](const ConfigNode& node, std::string_view what, const std::string& full,
                           const std::vector<std::string>& valid) {
    found.push_back({node.line == 0 ? std::tuple(1, 0) : std::tuple(0, node.line),
                     fmt::format("{}: unknown {} \"{}\"{}", node.origin, what, full, suggestion(full, valid))});
  };
  for (size_t i = 0; i < table.children.size(); ++i) {
    const ConfigNode& node = table.children[i];
    // A key that has to be quoted is nobody's, even if it spells a path, as "train.steps" does.
    const bool bare = is_bare_key(table.names[i]);
    const std::string full = join_config_path(path, bare ? table.names[i] : fmt::format("'{}'", table.names[i]));
    if (ignored.contains(full) || asked_index.contains(full)) continue;
    if (node.kind == ConfigKind::table) {
      if (sections.contains(full)) {
        find_unknown(node, full, found);
      } else {
        unknown(node, "section", full, {sections.begin(), sections.end()});
      }
    } else if (lists.contains(full)) {
      for (size_t k = 0; k < node.children.size(); ++k) {
        find_unknown(node.children[k], fmt::format("{}[{}]", full, k), found);
      }
    } else if (!sections.contains(full)) {  // a section that is no table was complained of when it was opened
      std::vector<std::string> valid;
      for (const Asked& key : asked) valid.push_back(key.path);
      unknown(node, "key", full, valid);
    }
  }
}

Config::Config(std::unique_ptr<ConfigState> state) : state_(std::move(state)) {}
Config::~Config() = default;
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;

Result<Config> Config::load(const std::string& path) {
  const auto text = read_file(path, kLimitBytes);
  if (!text.ok()) return Error(ErrorKind::usage, text.error().message());
  return parse(*text, path);
}

Result<Config> Config::parse(std::string_view text, std::string name) {
  auto state = std::make_unique<ConfigState>();
  state->root = TROUPE_TRY(parse_toml(text, name));
  state->name = std::move(name);
  return Config(std::move(state));
}

Status Config::set(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  const std::string_view path = trim(assignment.substr(0, equals));
  if (equals == std::string_view::npos || path.empty()) {
    return usage_error("--set {}: a key and its value are wanted, such as --set train.steps=100", assignment);
  }
  const std::string_view text = trim(assignment.substr(equals + 1));
  const std::string origin = fmt::format("--set {}", path);

  ConfigNode value;
  auto parsed = parse_toml(fmt::format("value = {}", text), origin);
  if (parsed.ok() && parsed->children.size() == 1) {
    value = std::move(parsed->children.front());
    if (value.kind == ConfigKind::boolean || value.kind == ConfigKind::integer || value.kind == ConfigKind::floating) {
      value.string = text;
    }
  } else if (text.empty() || std::string_view("\"'[{").find(text.front()) != std::string_view::npos ||
             text.find('\n') != std::string_view::npos) {
    return usage_error("--set {}: \"{}\" is no TOML value", path, text);
  } else {
    value.kind = ConfigKind::string;
    value.string = text;
  }
  const auto mark = [&](auto& self, ConfigNode& node) -> void {
    node.origin = origin;
    node.line = 0;
    for (ConfigNode& child : node.children) self(self, child);
  };
  mark(mark, value);

  ConfigNode* table = &state_->root;
  for (std::string_view rest = path;;) {
    const size_t dot = rest.find('.');
    const std::string_view key = rest.substr(0, dot);
    if (!is_bare_key(key)) return usage_error("{}: \"{}\" is no key", origin, path);
    if (table->kind != ConfigKind::table) {
      return usage_error("{}: \"{}\" is no section", origin, path.substr(0, path.size() - rest.size() - 1));
    }
    ConfigNode* child = table->child(key);
    if (!child) {
      table->names.emplace_back(key);
      child = &table->children.emplace_back();
      child->origin = origin;
    }
    if (dot == std::string_view::npos) {
      *child = std::move(value);
      return {};
    }
    table = child;
    rest.remove_prefix(dot + 1);
  }
}

ConfigSection Config::section(std::string_view path) {
  ConfigSection section(state_.get(), "");
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    section = section.section(path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return section;
}

void Config::ignore(std::string_view path) { state_->ignored.emplace(path); }

void Config::reject(std::string_view path, std::string_view message) { state_->complain(state_->find(path), message); }

Status Config::finish() const {
  std::vector<ConfigState::Complaint> all = state_->complaints;
  state_->find_unknown(state_->root, "", all);
  const auto first =
      std::min_element(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.place < b.place; });
  if (first == all.end()) return {};
  return Error(ErrorKind::usage, first->message);
}

std::string Config::where(std::string_view path) const {
  const ConfigNode* node = state_->find(path);
  return node ? node->origin : "default";
}

}  // namespace troupe
