// Text for a terminal: what people read, and nothing that a worker can use to take the terminal over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace hivemetal::node::show {

// `text` with control characters, escape sequences and broken UTF-8 made visible (`\x1b`, `\u009b`); line
// feeds and tabs stay if `lines` is set. Also bidirectional overrides, which make a line read as another one.
std::string escaped(std::string_view text, bool lines = false);

// "1.5 GiB", "312 B".
std::string size_text(double bytes);

// "0.4 s", "3 min 12 s", "2 h 5 min".
std::string duration_text(double seconds);

// "▁▂▅" like bar of `width` cells, `share` from 0 to 1.
std::string bar(double share, std::size_t width);

// Columns on a terminal that the text takes; a code point counts as one.
std::size_t columns_of(std::string_view text);

// The text cut to `width` columns, with "…" if something was cut; padded to it if `pad` is set.
std::string fitted(std::string_view text, std::size_t width, bool pad = false);

// Rows under a header, columns aligned, two blanks between them.
std::string table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

// Members of JSON that a worker or a peer has written, and that may be anything.
double number_in(const nlohmann::json& object, const char* key, double otherwise = 0);
std::string text_in(const nlohmann::json& object, const char* key);
bool flag_in(const nlohmann::json& object, const char* key, bool otherwise);
bool has_number(const nlohmann::json& object, const char* key);

}  // namespace hivemetal::node::show
