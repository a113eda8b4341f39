#include "node/store.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "node/file.h"

namespace hivemetal::node {

namespace {

constexpr int kSchemaVersion = 1;
constexpr std::size_t kValueBytesMax = 8 * 1024 * 1024;
constexpr int kPeersMax = 256;

constexpr const char* kSchema = R"(
  CREATE TABLE entries (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE events (run TEXT NOT NULL, sequence INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (run, sequence)) WITHOUT ROWID;
  CREATE TABLE peers (peer TEXT PRIMARY KEY, address TEXT NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = 1;
)";

}  // namespace

// One prepared statement with its values. Parameters are numbered from 1, columns from 0.
class Store::Statement {
 public:
  Statement(sqlite3* database, const char* sql) {
    // Our own SQL: it is wrong only if the file is not ours, and then every step says so.
    sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }

  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& text(int index, std::string_view value) {
    sqlite3_bind_text64(statement_, index, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8);
    return *this;
  }
  Statement& blob(int index, std::string_view value) {
    sqlite3_bind_blob64(statement_, index, value.data() == nullptr ? "" : value.data(), value.size(),
                        SQLITE_STATIC);
    return *this;
  }
  Statement& number(int index, std::uint64_t value) {
    sqlite3_bind_int64(statement_, index,
                       static_cast<sqlite3_int64>(std::min<std::uint64_t>(value, INT64_MAX)));
    return *this;
  }
  Statement& real(int index, double value) {
    sqlite3_bind_double(statement_, index, value);
    return *this;
  }

  // SQLITE_ROW, SQLITE_DONE or an error.
  int step() { return statement_ == nullptr ? SQLITE_ERROR : sqlite3_step(statement_); }

  Bytes bytes(int column) const {
    const void* data = sqlite3_column_blob(statement_, column);
    return data == nullptr ? Bytes()
                           : Bytes(static_cast<const char*>(data),
                                   static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  std::uint64_t integer(int column) const {
    return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
};

Result<std::unique_ptr<Store>> Store::open(const std::filesystem::path& file) {
  // SQLite would make the file with the umask's mode.
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return system_error("cannot open " + file.string(), errno);
  ::close(fd);
  sqlite3* database = nullptr;
  const int opened = sqlite3_open_v2(file.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr);
  std::unique_ptr<Store> store(new Store(database, file));
  if (opened != SQLITE_OK) return store->error("open");
  if (const auto prepared = store->prepare(); !prepared) return prepared.error();
  return store;
}

Store::Store(sqlite3* database, std::filesystem::path file) : database_(database), file_(std::move(file)) {}

Store::~Store() { sqlite3_close(database_); }

Result<void> Store::prepare() {
  sqlite3_busy_timeout(database_, 1000);
  for (const char* pragma :
       {"PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", "PRAGMA trusted_schema = OFF"}) {
    if (const auto done = execute(pragma); !done) return done;
  }
  Statement version(database_, "PRAGMA user_version");
  if (version.step() != SQLITE_ROW) return error("read");
  const auto found = version.integer(0);
  if (found > kSchemaVersion) {
    return Error{
        ErrorCode::Refused,
        fmt::format(
            "{} was written by a newer hivemetal (schema {}, this program knows {}); upgrade hivemetal",
            file_.string(), found, kSchemaVersion)};
  }
  if (found == kSchemaVersion) return {};
  return execute((std::string("BEGIN;") + kSchema + "COMMIT;").c_str());
}

Result<void> Store::execute(const char* sql) {
  if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return error("prepare");
}

Error Store::error(std::string_view doing) const {
  const auto what = fmt::format("cannot {} {}", doing, file_.string());
  switch (sqlite3_errcode(database_) & 0xff) {
    case SQLITE_FULL:
      return system_error(what, ENOSPC);
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return system_error(what, EACCES);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Error{
          ErrorCode::Unavailable,
          fmt::format("{}: the file is damaged; move it away, the node starts with an empty one", what)};
    default:
      return Error{ErrorCode::Unavailable, fmt::format("{}: {}", what, sqlite3_errmsg(database_))};
  }
}

Result<void> Store::put(const std::string& name, const Bytes& value) {
  if (value.size() > kValueBytesMax)
    return Error{ErrorCode::Invalid,
                 fmt::format("{} has {} bytes, and a value at most {}", name, value.size(), kValueBytesMax)};
  Statement statement(
      database_,
      "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value");
  if (statement.text(1, name).blob(2, value).step() != SQLITE_DONE) return error("write");
  return {};
}

Result<std::optional<Bytes>> Store::get(const std::string& name) const {
  Statement statement(database_, "SELECT value FROM entries WHERE name = ?1");
  switch (statement.text(1, name).step()) {
    case SQLITE_ROW:
      return std::optional<Bytes>(statement.bytes(0));
    case SQLITE_DONE:
      return std::optional<Bytes>();
    default:
      return error("read");
  }
}

Result<void> Store::erase(const std::string& name) {
  Statement statement(database_, "DELETE FROM entries WHERE name = ?1");
  if (statement.text(1, name).step() != SQLITE_DONE) return error("write");
  return {};
}

Result<std::vector<std::string>> Store::names(const std::string& prefix) const {
  Statement statement(database_,
                      "SELECT name FROM entries WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name");
  statement.text(1, prefix);
  std::vector<std::string> found;
  int step = 0;
  while ((step = statement.step()) == SQLITE_ROW) found.push_back(statement.bytes(0));
  if (step != SQLITE_DONE) return error("read");
  return found;
}

Result<void> Store::append(const scheduler::Event& event) {
  const auto text = scheduler::to_json(event).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  Statement statement(database_, "INSERT OR IGNORE INTO events VALUES (?1, ?2, ?3)");
  if (statement.text(1, event.run).number(2, event.sequence).text(3, text).step() != SQLITE_DONE)
    return error("write");
  return {};
}

Result<std::vector<scheduler::Event>> Store::events(const std::string& run, std::uint64_t since,
                                                    std::size_t limit) const {
  Statement statement(database_,
                      "SELECT event FROM events WHERE run = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3");
  statement.text(1, run).number(2, since).number(3, limit);
  std::vector<scheduler::Event> found;
  int step = 0;
  while ((step = statement.step()) == SQLITE_ROW) {
    auto event = scheduler::event_from_json(
        nlohmann::json::parse(statement.bytes(0), nullptr, /*allow_exceptions=*/false));
    if (event) found.push_back(std::move(*event));
  }
  if (step != SQLITE_DONE) return error("read");
  return found;
}

Result<std::uint64_t> Store::last_sequence(const std::string& run) const {
  Statement statement(database_, "SELECT coalesce(max(sequence), 0) FROM events WHERE run = ?1");
  if (statement.text(1, run).step() != SQLITE_ROW) return error("read");
  return statement.integer(0);
}

Result<void> Store::erase_events(const std::string& run) {
  Statement statement(database_, "DELETE FROM events WHERE run = ?1");
  if (statement.text(1, run).step() != SQLITE_DONE) return error("write");
  return {};
}

Result<void> Store::remember_peer(const std::string& peer, const std::string& address, double unix_time) {
  Statement insert(database_,
                   "INSERT INTO peers VALUES (?1, ?2, ?3) ON CONFLICT (peer) DO UPDATE SET address = "
                   "excluded.address, seen = excluded.seen");
  if (insert.text(1, peer).text(2, address).real(3, unix_time).step() != SQLITE_DONE) return error("write");
  Statement trim(database_,
                 "DELETE FROM peers WHERE peer NOT IN (SELECT peer FROM peers ORDER BY seen DESC LIMIT ?1)");
  if (trim.number(1, kPeersMax).step() != SQLITE_DONE) return error("write");
  return {};
}

Result<std::vector<std::string>> Store::peer_addresses(std::size_t limit) const {
  Statement statement(database_, "SELECT address FROM peers ORDER BY seen DESC LIMIT ?1");
  statement.number(1, limit);
  std::vector<std::string> found;
  int step = 0;
  while ((step = statement.step()) == SQLITE_ROW) found.push_back(statement.bytes(0));
  if (step != SQLITE_DONE) return error("read");
  return found;
}

}  // namespace hivemetal::node
