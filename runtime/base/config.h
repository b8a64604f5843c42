// A TOML config that tells a user what is wrong with it: every key must be asked for by some reader, of
// the right type and in range, or finish() names file, line and the nearest valid key.
//
//   Config config = TROUPE_TRY(Config::load("launcher/configs/nano.toml"));
//   TROUPE_TRY(config.set("train.steps=100"));                     // --set, as often as wanted
//   config.section("train")
//       .read("steps", options.steps, at_least(1))                 // a missing key leaves the default
//       .read("learning_rate", options.learning_rate, above(0))
//       .read_choice("recompute", options.recompute, {{"none", Recompute::none}, …});
//   TROUPE_TRY(config.finish());                                   // after every section was read
//
// A default is what the variable holds when it is read. Readers never fail: what they find is collected
// and finish() returns the first by line. Not thread-safe.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace troupe {

// What a value must satisfy beside its type; of a list, what each element must. Join with &.
struct ConfigRule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_excluded = false;
  bool high_excluded = false;
  bool required = false;

  ConfigRule operator&(const ConfigRule& other) const;
};
inline ConfigRule at_least(double low) { return {.low = low}; }
inline ConfigRule at_most(double high) { return {.high = high}; }
inline ConfigRule above(double low) { return {.low = low, .low_excluded = true}; }
inline ConfigRule below(double high) { return {.high = high, .high_excluded = true}; }
inline ConfigRule between(double low, double high) { return {.low = low, .high = high}; }
inline ConfigRule required() { return {.required = true}; }

struct ConfigState;

// One table of a config, present or not. Valid as long as its Config. Keys are bare TOML keys.
class ConfigSection {
 public:
  // True if the key was given; counts as asking for it.
  bool has(std::string_view key) const;

  // Each sets `value` if the key was given and is right. A float may be written as an integer. Lists
  // replace the default as a whole, and one value that is no list is a list of one.
  ConfigSection& read(std::string_view key, bool& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, int32_t& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, int64_t& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, uint64_t& value, ConfigRule rule = {});  // up to 2^63 - 1
  ConfigSection& read(std::string_view key, float& value, ConfigRule rule = {});     // finite only
  ConfigSection& read(std::string_view key, double& value, ConfigRule rule = {});    // finite only
  ConfigSection& read(std::string_view key, std::string& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, std::vector<int64_t>& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, std::vector<double>& value, ConfigRule rule = {});
  ConfigSection& read(std::string_view key, std::vector<std::string>& value, ConfigRule rule = {});

  // A key that has no default: nullopt where it was not given.
  template <class T>
  ConfigSection& read(std::string_view key, std::optional<T>& value, ConfigRule rule = {}) {
    if (!has(key) && !value && !rule.required) return *this;
    T present = value.value_or(T{});
    read(key, present, rule);
    if (has(key) || value) value = std::move(present);
    return *this;
  }

  // An integer, or the word "auto", which is nullopt.
  ConfigSection& read_or_auto(std::string_view key, std::optional<int32_t>& value, ConfigRule rule = {});

  // One of a few words.
  ConfigSection& read_choice(std::string_view key, std::string& value, std::initializer_list<std::string_view> words,
                             ConfigRule rule = {});
  template <class Enum>
    requires std::is_enum_v<Enum>
  ConfigSection& read_choice(std::string_view key, Enum& value,
                             std::initializer_list<std::pair<std::string_view, std::type_identity_t<Enum>>> words,
                             ConfigRule rule = {}) {
    std::vector<std::string_view> names;
    size_t index = words.size();
    for (const auto& [name, meaning] : words) {
      if (meaning == value && index == words.size()) index = names.size();
      names.push_back(name);
    }
    choose(key, index, names, rule);
    if (index < words.size()) value = (words.begin() + index)->second;
    return *this;
  }

  // A table below this one, e.g. [train.schedule].
  ConfigSection section(std::string_view key) const;
  // The tables of a list, e.g. [[data.mixture]]; empty if the key was not given.
  std::vector<ConfigSection> tables(std::string_view key) const;

  // The dotted path, e.g. "train" or "data.mixture[0]"; "" is the whole file.
  const std::string& path() const { return path_; }

 private:
  friend class Config;
  ConfigSection(ConfigState* state, std::string path) : state_(state), path_(std::move(path)) {}
  void choose(std::string_view key, size_t& index, const std::vector<std::string_view>& names, const ConfigRule& rule);
  std::string path_of(std::string_view key) const;

  ConfigState* state_;
  std::string path_;
};

class Config {
 public:
  // Errors (usage): no such file, or a TOML syntax error with file:line.
  static Result<Config> load(const std::string& path);
  // `name` stands for the file in messages.
  static Result<Config> parse(std::string_view text, std::string name);

  ~Config();
  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;

  // Applies "a.b=value" over what the file says; the last one wins. The value is TOML, or a bare word,
  // taken as a string; where a string is wanted, any value is taken as the text it was given as.
  Status set(std::string_view assignment);

  // The table at a dotted path; "" is the whole file.
  ConfigSection section(std::string_view path);
  // Leaves a section to somebody else: what stands in it is not checked.
  void ignore(std::string_view path);

  // Adds an error at a key, e.g. a size that does not divide another; finish() reports it in its place.
  void reject(std::string_view path, std::string_view message);
  // The first error by line, or that of a key or section that nobody asked for.
  Status finish() const;

  // "file:line", "--set train.steps" or "default".
  std::string where(std::string_view path) const;

  // Every key that was asked for, with the value that holds. The TOML reads back to the same values.
  std::string to_json() const;
  std::string to_toml() const;

 private:
  explicit Config(std::unique_ptr<ConfigState> state);
  std::unique_ptr<ConfigState> state_;
};

}  // namespace troupe
