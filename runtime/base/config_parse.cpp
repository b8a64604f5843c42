// TOML text to our own tree; nothing else knows the TOML library.
#include <toml++/toml.h>

#include "runtime/base/config_tree.h"

namespace troupe {
namespace {

ConfigNode convert(const toml::node& node, const std::string& name) {
  ConfigNode result;
  result.line = static_cast<int>(node.source().begin.line);
  result.origin = fmt::format("{}:{}", name, result.line);
  if (const auto* table = node.as_table()) {
    result.kind = ConfigKind::table;
    for (const auto& [key, child] : *table) {
      result.names.emplace_back(key.str());
      result.children.push_back(convert(child, name));
    }
  } else if (const auto* list = node.as_array()) {
    result.kind = ConfigKind::list;
    for (const auto& child : *list) result.children.push_back(convert(child, name));
  } else if (const auto* boolean = node.as_boolean()) {
    result.kind = ConfigKind::boolean;
    result.boolean = boolean->get();
  } else if (const auto* integer = node.as_integer()) {
    result.kind = ConfigKind::integer;
    result.integer = integer->get();
  } else if (const auto* floating = node.as_floating_point()) {
    result.kind = ConfigKind::floating;
    result.floating = floating->get();
  } else if (const auto* string = node.as_string()) {
    result.kind = ConfigKind::string;
    result.string = string->get();
  } else {
    result.kind = ConfigKind::moment;
  }
  return result;
}

}  // namespace

Result<ConfigNode> parse_toml(std::string_view text, const std::string& name) {
  try {
    return convert(toml::parse(text), name);
  } catch (const toml::parse_error& error) {
    return usage_error("{}:{}: {}", name, error.source().begin.line, error.description());
  }
}

}  // namespace troupe
