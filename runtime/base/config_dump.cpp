// The resolved config as text: asked keys, grouped by table in the order of asking.
#include <algorithm>

#include "runtime/base/config.h"
#include "runtime/base/config_tree.h"
#include "runtime/base/json.h"

namespace troupe {
namespace {

struct Tree {
  std::string key;
  const ConfigValue* value = nullptr;
  bool is_list = false;  // children are tables "0", "1", …
  std::vector<Tree> children;

  Tree& child(std::string_view name) {
    const auto found = std::find_if(children.begin(), children.end(), [&](const Tree& c) { return c.key == name; });
    if (found != children.end()) return *found;
    Tree& added = children.emplace_back();
    added.key = name;
    return added;
  }
};

Tree grow(const ConfigState& state) {
  Tree root;
  for (const ConfigState::Asked& asked : state.asked) {
    if (std::holds_alternative<std::monostate>(asked.value)) continue;
    Tree* node = &root;
    std::string_view rest = asked.path;
    while (!rest.empty()) {
      const size_t dot = std::min(rest.find('.'), rest.size());
      const std::string_view key = rest.substr(0, dot);
      rest.remove_prefix(std::min(dot + 1, rest.size()));
      const size_t bracket = key.find('[');
      node = &node->child(key.substr(0, bracket));
      if (bracket == std::string_view::npos) continue;
      node->is_list = true;
      node = &node->child(key.substr(bracket + 1, key.size() - bracket - 2));
    }
    node->value = &asked.value;
  }
  return root;
}

void write_scalar(JsonWriter& out, const ConfigValue& value) {
  std::visit(
      [&]<class T>(const T& v) {
        if constexpr (std::is_same_v<T, std::monostate>) {
          out.null();
        } else if constexpr (requires { v.begin()->size(); } || std::is_same_v<T, std::vector<int64_t>> ||
                             std::is_same_v<T, std::vector<double>>) {
          out.begin_array();
          for (const auto& element : v) out.value(element);
          out.end_array();
        } else {
          out.value(v);
        }
      },
      value);
}

void write_json(JsonWriter& out, const Tree& node) {
  if (node.value) return write_scalar(out, *node.value);
  node.is_list ? out.begin_array() : out.begin_object();
  for (const Tree& child : node.children) {
    if (!node.is_list) out.key(child.key);
    write_json(out, child);
  }
  node.is_list ? out.end_array() : out.end_object();
}

void write_toml(std::string& out, const Tree& node, const std::string& path) {
  for (const Tree& child : node.children) {
    if (!child.value) continue;
    JsonWriter value;  // JSON's scalars and lists of scalars are TOML's, as long as no float is NaN or infinite
    write_scalar(value, *child.value);
    out += fmt::format("{} = {}\n", child.key, value.text());
  }
  for (const Tree& child : node.children) {
    if (child.value) continue;
    const std::string name = join_config_path(path, child.key);
    if (!child.is_list) {
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", name);
      write_toml(out, child, name);
    } else {
      for (const Tree& element : child.children) {
        out += fmt::format("{}[[{}]]\n", out.empty() ? "" : "\n", name);
        write_toml(out, element, name);
      }
    }
  }
}

}  // namespace

std::string Config::to_json() const {
  JsonWriter out(2);
  write_json(out, grow(*state_));
  return out.text();
}

std::string Config::to_toml() const {
  std::string out;
  write_toml(out, grow(*state_), "");
  return out;
}

}  // namespace troupe
