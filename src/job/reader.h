// Typed reading of a tree: every access says what was expected, where, and what to write.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "job/tree.h"

namespace hivemetal::job {

// One value of the tree with the path by which it was reached, "nodes.min".
class Reader {
 public:
  Reader(const Tree& tree, std::string path, std::string_view file_name)
      : tree_(tree), path_(std::move(path)), file_name_(file_name) {}

  // "job.yaml:7: `message`"; without a line for JSON.
  Error error(std::string_view message) const;
  Error error_at(int line, std::string_view message) const;

  const std::string& path() const { return path_; }
  const Tree& tree() const { return tree_; }

  // A single value as it is written, in quotes or not.
  Result<std::string> text() const;

  // The value as it is written, one of `names`; returns its index.
  Result<std::size_t> one_of(std::initializer_list<std::string_view> names) const;

  // A number without quotes, from `min` to `max`.
  Result<std::uint32_t> integer(std::uint32_t min, std::uint32_t max) const;
  Result<double> number(double min, double max) const;

  Result<std::uint64_t> size() const;
  Result<std::chrono::milliseconds> duration() const;

  Result<std::vector<Reader>> items(std::size_t items_max) const;  // of a list

  // The entries of a map by their keys, all of which must be among `keys`. An unknown one is answered by the
  // nearest.
  Result<std::map<std::string, Reader, std::less<>>> entries(
      std::initializer_list<std::string_view> keys) const;

  // The entries of a map with keys of the user's choice.
  Result<std::vector<std::pair<std::string, Reader>>> pairs(std::size_t pairs_max) const;

 private:
  Error wrong_kind(Tree::Kind wanted) const;
  Reader child(const Tree& tree, std::string_view name) const;

  std::reference_wrapper<const Tree> tree_;
  std::string path_;
  std::string_view file_name_;
};

// The number of letters to change, add or drop to get from one word to the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace hivemetal::job
