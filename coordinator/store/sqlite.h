#ifndef CONSILIUM_COORDINATOR_STORE_SQLITE_H_
#define CONSILIUM_COORDINATOR_STORE_SQLITE_H_

// A thin typed wrapper around the SQLite C API: statements are cached and
// reset by scope, values are bound and read by type, errors are statuses.
// Private to the store; nothing outside it sees sqlite3.h.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/digest.h"
#include "consilium/base/status_macros.h"

struct sqlite3;
struct sqlite3_stmt;

namespace consilium {

class Connection;

// Microseconds since the epoch, as stored. The infinities survive.
int64_t ToDatabaseTime(absl::Time time);
absl::Time FromDatabaseTime(int64_t micros);

// Bytes to be bound as BLOB rather than TEXT.
struct BlobBytes {
  std::string_view bytes;
};
// Text whose empty value is stored as NULL; likewise bytes.
struct TextOrNull {
  std::string_view text;
};
struct BlobOrNull {
  std::string_view bytes;
};

// A prepared statement on loan from its connection; goes back, reset and with
// its bindings cleared, when this dies. Columns count from 0.
class Statement {
 public:
  Statement() = default;
  ~Statement();
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;

  // Binds the parameters ?1, ?2, ... in order. The first error is kept and
  // comes out of Step.
  template <typename... Args>
  void BindAll(const Args&... args) {
    (BindNext(args), ...);
  }

  // True: a row is there. False: done.
  absl::StatusOr<bool> Step();

  bool IsNull(int column) const;
  int64_t Int(int column) const;
  double Real(int column) const;
  bool Bool(int column) const { return Int(column) != 0; }
  std::string Text(int column) const;  // empty for NULL
  std::string Blob(int column) const;  // empty for NULL
  absl::Time Time(int column) const { return FromDatabaseTime(Int(column)); }
  std::optional<int64_t> OptInt(int column) const;
  std::optional<double> OptReal(int column) const;
  std::optional<absl::Time> OptTime(int column) const;

  // A hexadecimal digest column. A damaged one gives zeros and an error that
  // comes out of the next Step and of status().
  Sha256Digest Digest(int column);
  // A word parsed by one of the Parse functions of records.h; same rule.
  template <typename T>
  T Word(int column, absl::StatusOr<T> (*parse)(std::string_view)) {
    absl::StatusOr<T> value = parse(Text(column));
    if (!value.ok()) Damaged(value.status());
    return value.ok() ? *value : T{};
  }
  const absl::Status& status() const { return status_; }

 private:
  friend class Connection;
  Statement(Connection* connection, sqlite3_stmt* stmt, bool* in_use)
      : connection_(connection), stmt_(stmt), in_use_(in_use) {}

  void BindNext(int64_t value);
  void BindNext(int value) { BindNext(static_cast<int64_t>(value)); }
  void BindNext(bool value) { BindNext(static_cast<int64_t>(value)); }
  void BindNext(double value);
  void BindNext(std::string_view value);
  void BindNext(const char* value) { BindNext(std::string_view(value)); }
  void BindNext(const std::string& value) { BindNext(std::string_view(value)); }
  void BindNext(BlobBytes value);
  void BindNext(TextOrNull value);
  void BindNext(BlobOrNull value);
  void BindNext(std::nullopt_t);
  void BindNext(absl::Time value) { BindNext(ToDatabaseTime(value)); }
  void BindNext(const Sha256Digest& value) { BindNext(value.Hex()); }
  template <typename T>
  void BindNext(const std::optional<T>& value) {
    if (value.has_value()) {
      BindNext(*value);
    } else {
      BindNext(std::nullopt);
    }
  }
  void Bound(int code);
  void Damaged(const absl::Status& status);

  Connection* connection_ = nullptr;
  sqlite3_stmt* stmt_ = nullptr;
  bool* in_use_ = nullptr;  // of the cache entry; null: not cached
  int next_ = 1;
  absl::Status status_;
};

struct ConnectionOptions {
  std::string path;
  std::string vfs;
  bool read_only = false;
  absl::Duration busy_timeout = absl::Seconds(5);
};

// One SQLite connection. One thread at a time.
class Connection {
 public:
  // The file must exist (it is made elsewhere, with mode 0600).
  static absl::StatusOr<std::unique_ptr<Connection>> Open(
      const ConnectionOptions& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // `sql` is one statement; prepared once and kept.
  absl::StatusOr<Statement> Prepare(std::string_view sql);

  // Runs a script of statements without parameters; rows are ignored.
  absl::Status Script(const std::string& sql);

  // One statement that gives no rows (or whose rows do not matter).
  template <typename... Args>
  absl::Status Run(std::string_view sql, const Args&... args) {
    CONSILIUM_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
    statement.BindAll(args...);
    return statement.Step().status();
  }

  // Calls on_row(Statement&) for each row.
  template <typename OnRow, typename... Args>
  absl::Status Each(std::string_view sql, OnRow&& on_row, const Args&... args) {
    CONSILIUM_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
    statement.BindAll(args...);
    while (true) {
      CONSILIUM_ASSIGN_OR_RETURN(const bool row, statement.Step());
      if (!row) return absl::OkStatus();
      on_row(statement);
      CONSILIUM_RETURN_IF_ERROR(statement.status());
    }
  }

  // A statement that gives one integer; NOT_FOUND without a row.
  template <typename... Args>
  absl::StatusOr<int64_t> OneInt(std::string_view sql, const Args&... args) {
    std::optional<int64_t> found;
    CONSILIUM_RETURN_IF_ERROR(Each(
        sql, [&found](Statement& row) { found = row.Int(0); }, args...));
    if (!found.has_value()) return absl::NotFoundError("query gave no row");
    return *found;
  }

  int64_t changes() const;         // rows changed by the last statement
  int64_t last_insert_id() const;  // of the last INSERT
  bool in_transaction() const;
  sqlite3* handle() { return db_; }
  const std::string& path() const { return path_; }

  // The status of a result code, with the database's name and error text.
  absl::Status Error(int code) const;

 private:
  friend class Statement;
  Connection(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  struct Cached {
    sqlite3_stmt* stmt = nullptr;
    bool in_use = false;
  };
  sqlite3* db_;
  std::string path_;
  absl::node_hash_map<std::string, Cached> cache_;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_STORE_SQLITE_H_
