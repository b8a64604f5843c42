// Inside config: the parsed tree, free of the TOML library, and what the readers leave for finish().
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>
#include <vector>

#include "runtime/base/config.h"
#include "runtime/base/result.h"

namespace troupe {

enum class ConfigKind { boolean, integer, floating, string, moment, list, table };

struct ConfigNode {
  ConfigKind kind = ConfigKind::table;
  bool boolean = false;
  int64_t integer = 0;
  double floating = 0;
  std::string string;                // a string's value; of an overriding scalar, the text as it was given
  std::vector<std::string> names;    // of a table: one for each child
  std::vector<ConfigNode> children;  // of a table or a list
  std::string origin;                // "file:line" or "--set key"
  int line = 0;                      // 0: not from the file

  ConfigNode* child(std::string_view name);
  const ConfigNode* child(std::string_view name) const { return const_cast<ConfigNode*>(this)->child(name); }
};

// Errors (usage): "name:line: what is wrong".
Result<ConfigNode> parse_toml(std::string_view text, const std::string& name);

// A value that some reader holds after reading; monostate if it has none.
using ConfigValue = std::variant<std::monostate, bool, int64_t, float, double, std::string, std::vector<int64_t>,
                                 std::vector<double>, std::vector<std::string>>;

struct ConfigState {
  struct Asked {
    std::string path;
    ConfigValue value;
  };
  struct Complaint {
    std::tuple<int, int> place;  // sorts by file line, then overrides, then what stands nowhere
    std::string message;
  };

  std::string name;
  ConfigNode root;
  std::vector<Asked> asked;  // in the order of asking
  std::map<std::string, size_t, std::less<>> asked_index;
  std::set<std::string, std::less<>> sections;  // tables that a reader opened
  std::set<std::string, std::less<>> lists;     // lists of tables that a reader opened
  std::set<std::string, std::less<>> ignored;
  std::vector<Complaint> complaints;

  // The node at a path such as "data.mixture[0].weight", or nullptr.
  const ConfigNode* find(std::string_view path) const;
  void ask(const std::string& path);
  void record(const std::string& path, ConfigValue value);
  void complain(const ConfigNode* at, std::string_view message);
  void find_unknown(const ConfigNode& table, const std::string& path, std::vector<Complaint>& found) const;
};

// "train" + "steps" is "train.steps"; "" + "train" is "train".
std::string join_config_path(std::string_view path, std::string_view key);

}  // namespace troupe
