// Builds the tree from nlohmann's parser events, within the same limits as for YAML.
#include <cmath>
#include <fmt/format.h>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "job/tree.h"

namespace hivemetal::job {

namespace {

class JsonTreeBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return put({}); }
  bool boolean(bool value) override { return put(scalar(value ? "true" : "false", false)); }
  bool number_integer(std::int64_t value) override { return put(scalar(std::to_string(value), false)); }
  bool number_unsigned(std::uint64_t value) override { return put(scalar(std::to_string(value), false)); }
  bool number_float(double value, const std::string&) override {
    return std::isfinite(value) ? put(scalar(fmt::format("{}", value), false))
                                : fail("a number that is not finite");
  }
  bool string(std::string& value) override { return put(scalar(std::move(value), true)); }
  bool binary(nlohmann::json::binary_t&) override { return fail("binary data"); }
  bool start_object(std::size_t) override { return open(Tree::Kind::Map); }
  bool start_array(std::size_t) override { return open(Tree::Kind::List); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& key) override {
    if (!open_.back().keys.insert(key).second) return fail(fmt::format("key '{}' is there twice", key));
    open_.back().tree.entries.push_back({std::move(key), 0, {}});
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail(fmt::format("no JSON at byte {}", position));
  }

  Tree& root() { return root_; }
  const std::string& problem() const { return problem_; }

 private:
  struct Open {
    Tree tree;
    std::set<std::string> keys;
  };

  static Tree scalar(std::string text, bool quoted) {
    Tree node;
    node.kind = Tree::Kind::Scalar;
    node.text = std::move(text);
    node.quoted = quoted;
    return node;
  }

  bool fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool open(Tree::Kind kind) {
    if (open_.size() >= kTreeDepthMax)
      return fail(fmt::format("nested deeper than {} levels", kTreeDepthMax));
    open_.emplace_back().tree.kind = kind;
    return true;
  }

  bool close() {
    Tree node = std::move(open_.back().tree);
    open_.pop_back();
    return put(std::move(node));
  }

  bool put(Tree node) {
    if (++nodes_ > kTreeNodesMax) return fail(fmt::format("more than {} values", kTreeNodesMax));
    if (open_.empty()) {
      root_ = std::move(node);
    } else if (Tree& parent = open_.back().tree; parent.kind == Tree::Kind::List) {
      parent.items.push_back(std::move(node));
    } else {
      parent.entries.back().value = std::move(node);
    }
    return true;
  }

  std::vector<Open> open_;
  Tree root_;
  std::string problem_;
  int nodes_ = 0;
};

}  // namespace

Result<Tree> parse_json(std::string_view text) {
  JsonTreeBuilder builder;
  try {
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root());
  } catch (const nlohmann::json::exception& error) {
    return Error{ErrorCode::Invalid, fmt::format("job: {}", error.what())};
  }
  return Error{ErrorCode::Invalid, fmt::format("job: {}", builder.problem())};
}

Result<Tree> tree_of(const nlohmann::json& json) {
  try {
    return parse_json(json.dump());
  } catch (const nlohmann::json::exception& error) {  // text that is not UTF-8
    return Error{ErrorCode::Invalid, fmt::format("job: {}", error.what())};
  }
}

}  // namespace hivemetal::job
