// Builds the tree from yaml-cpp's parser events. Aliases are refused when they come, so nothing is ever
// expanded.
#include <fmt/format.h>
#include <set>
#include <sstream>
#include <utility>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "job/tree.h"

namespace hivemetal::job {

namespace {

int line_of(const YAML::Mark& mark) { return mark.line + 1; }

class TreeBuilder : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "a second document; one file is one job");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check(mark, "", anchor);
    Tree node;
    node.line = line_of(mark);
    put(mark, std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not allowed; write the value out");
  }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { fail_anchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check(mark, tag, anchor);
    Tree node;
    node.kind = Tree::Kind::Scalar;
    node.line = line_of(mark);
    node.text = value;
    node.quoted = tag == "!";
    put(mark, std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Tree::Kind::List);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Tree::Kind::Map);
  }
  void OnMapEnd() override { close(); }

  Tree& root() { return root_; }

 private:
  struct Open {
    YAML::Mark mark;
    Tree tree;
    std::set<std::string> keys;
    bool has_key = false;  // of a map: its last entry waits for a value
  };

  [[noreturn]] static void fail(const YAML::Mark& mark, const std::string& message) {
    throw YAML::ParserException(mark, message);
  }
  [[noreturn]] static void fail_anchor(const YAML::Mark& mark) {
    fail(mark, "anchors (&name) are not allowed; write the value out where it is needed");
  }

  void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) fail_anchor(mark);
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags (!name) are not allowed");
    if (++nodes_ > kTreeNodesMax) fail(mark, fmt::format("more than {} values", kTreeNodesMax));
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Tree::Kind kind) {
    check(mark, tag, anchor);
    if (open_.size() >= kTreeDepthMax) fail(mark, fmt::format("nested deeper than {} levels", kTreeDepthMax));
    Open& opened = open_.emplace_back();
    opened.mark = mark;
    opened.tree.kind = kind;
    opened.tree.line = line_of(mark);
  }

  void close() {
    Open closed = std::move(open_.back());
    open_.pop_back();
    put(closed.mark, std::move(closed.tree));
  }

  void put(const YAML::Mark& mark, Tree node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.tree.kind == Tree::Kind::List) {
      parent.tree.items.push_back(std::move(node));
    } else if (parent.has_key) {
      TreeEntry& entry = parent.tree.entries.back();
      if (node.kind == Tree::Kind::Null) node.line = entry.line;  // the parser gives the next token's
      entry.value = std::move(node);
      parent.has_key = false;
    } else {
      if (node.kind != Tree::Kind::Scalar)
        fail(mark, fmt::format("a key must be text, here is {}", name_of(node.kind)));
      if (!parent.keys.insert(node.text).second)
        fail(mark, fmt::format("key '{}' is there twice", node.text));
      parent.tree.entries.push_back({std::move(node.text), node.line, {}});
      parent.has_key = true;
    }
  }

  std::vector<Open> open_;  // the lists and maps we are in, outermost first
  Tree root_;
  int documents_ = 0;
  int nodes_ = 0;
};

}  // namespace

std::string_view name_of(Tree::Kind kind) {
  switch (kind) {
    case Tree::Kind::Null:
      return "nothing";
    case Tree::Kind::Scalar:
      return "a single value";
    case Tree::Kind::List:
      return "a list";
    case Tree::Kind::Map:
      return "a map";
  }
  return "something else";
}

Result<Tree> parse_yaml(std::string_view text, std::string_view file_name) {
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    const std::string where = error.mark.is_null() ? "" : fmt::format(":{}", line_of(error.mark));
    return Error{ErrorCode::Invalid, fmt::format("{}{}: {}", file_name, where, error.msg)};
  }
  return std::move(builder.root());
}

}  // namespace hivemetal::job
