// YAML and JSON as one tree of lists, maps and scalars, each with the line it came from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace hivemetal::job {

struct TreeEntry;

struct Tree {
  enum class Kind { Null, Scalar, List, Map };

  Kind kind = Kind::Null;
  int line = 0;                    // from 1; 0 for JSON
  std::string text;                // of a scalar, as written
  bool quoted = false;             // a scalar in quotes: text, not a number
  std::vector<Tree> items;         // of a list
  std::vector<TreeEntry> entries;  // of a map; no key twice
};

struct TreeEntry {
  std::string key;
  int line = 0;
  Tree value;
};

// "a list", "a map", "nothing", "text": for messages.
std::string_view name_of(Tree::Kind kind);

// What a document may be made of; a job file needs far less.
inline constexpr int kTreeDepthMax = 16;
inline constexpr int kTreeNodesMax = 20'000;

// Parses one YAML document. Fails with Invalid, "LINE: what is wrong", on anchors, aliases, tags, a second
// document, duplicate keys, keys that are no scalars, and beyond the limits above.
Result<Tree> parse_yaml(std::string_view text, std::string_view file_name);

// The same of a JSON text, or of a JSON value.
Result<Tree> parse_json(std::string_view text);
Result<Tree> tree_of(const nlohmann::json& json);

}  // namespace hivemetal::job
